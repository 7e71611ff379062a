"""ERNIE-Image in BF16, FP8 and INT8, all of the same random weights."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import comfy.model_patcher
import torch
from comfy import model_management
from comfy.ldm.ernie.model import ErnieImageModel
from comfy.quant_ops import QuantizedTensor
from comfy.supported_models import ErnieImage
from ernie import TINY, sample

TINIER = {**TINY, "hidden_size": 256, "ffn_hidden_size": 512, "rope_axes_dim": (32, 48, 48)}
ROTATED = {"convrot": True, "convrot_groupsize": 256}
FORMATS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "fp8": ({"format": "float8_e4m3fn"}, "TensorCoreFP8E4M3Layout", {"scale": "recalculate"}),
    "int8": (
        {"format": "int8_tensorwise", **ROTATED},
        "TensorWiseINT8Layout",
        {"per_channel": True, **ROTATED},
    ),
}
Weights = dict[str, torch.Tensor]


def models(names: list[str], tiny: bool, on_card: bool) -> dict[str, Any]:
    """
    MODELs by name, of bf16, fp8, "fp8 without scale" (of inputs) and int8.

    Nothing but them is left: what they are made of is made on the card, whose memory may be taken later.

    :param on_card: keep their weights there.
    """
    device = model_management.get_torch_device()
    home = device if on_card else torch.device("cpu")
    exact = _random_weights(tiny, device)

    @cache
    def quantized(kind: str) -> Weights:
        return _in_format(kind, exact)

    made: dict[str, Any] = {}
    if "fp8" in names:
        made["bf16"] = _model(exact, tiny, home)
        scales = _input_scales(made["bf16"], (128, 96) if tiny else ())
    for name in names:
        weights = exact if name == "bf16" else quantized(name.split()[0])
        made[name] = made.get(name) or _model(weights | scales if name == "fp8" else weights, tiny, home)
    return made


def _random_weights(tiny: bool, device: torch.device) -> Weights:
    generator = torch.Generator(device).manual_seed(1)
    config = TINIER if tiny else {}
    weights = {}
    for name, like in ErnieImageModel(**config, device="meta", operations=torch.nn).state_dict().items():
        gain = "norm" in name or name.endswith("ln.weight")
        spread = 1.3 / like[0].numel() ** 0.5 if like.ndim > 1 else 0.02
        weight = torch.randn(like.shape, generator=generator, device=device) * spread + gain
        weights[name] = weight.to(torch.bfloat16)
    return weights


def _in_format(kind: str, exact: Weights) -> Weights:
    about, layout, how = FORMATS[kind]
    weights = {}
    for name, weight in exact.items():
        if not name.startswith("layers.") or weight.ndim != 2:
            weights[name] = weight
            continue
        quantized = QuantizedTensor.from_float(weight.float(), layout, **how)
        layer = name.removesuffix(".weight")
        weights[name] = quantized._qdata
        weights[f"{layer}.weight_scale"] = quantized._params.scale
        weights[f"{layer}.comfy_quant"] = torch.tensor(list(json.dumps(about).encode()), dtype=torch.uint8)
    return weights


def _model(weights: Weights, tiny: bool, home: torch.device) -> Any:
    device = model_management.get_torch_device()
    weights = {
        name: weight.cpu() if "comfy_quant" in name else weight.to(home) for name, weight in weights.items()
    }
    config = ErnieImage({"image_model": "ernie", **(TINIER if tiny else {})})
    quantized = any("comfy_quant" in name for name in weights)
    if quantized:
        config.quant_config = {"mixed_ops": True}
    config.set_inference_dtype(torch.bfloat16, torch.bfloat16 if quantized else None, device=device)
    built = config.get_model(weights, "", device=home)
    patcher = comfy.model_patcher.CoreModelPatcher(built, device, home)
    built.load_model_weights(weights, "", assign=True)
    if device.type == "cpu":  # where ComfyUI dequantizes FP8
        for module in built.modules():
            if hasattr(module, "_full_precision_mm"):
                module._full_precision_mm = False
    return patcher


def _input_scales(patcher: Any, size: tuple[int, ...]) -> Weights:
    """Twice the largest input of each layer in a step."""
    largest: Weights = {}
    hooks = []
    for name, module in patcher.model.diffusion_model.named_modules():
        if name.startswith("layers.") and isinstance(module, torch.nn.Linear):

            def see(_: Any, args: tuple[torch.Tensor, ...], name: str = name) -> None:
                largest[name] = args[0].abs().amax().float()

            hooks.append(module.register_forward_pre_hook(see))
    sample(patcher, 1, 1, *size)
    for hook in hooks:
        hook.remove()
    return {f"{name}.input_scale": found * 2 / 448 for name, found in largest.items()}
