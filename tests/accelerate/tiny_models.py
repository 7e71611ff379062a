"""Runs with ComfyUI's Python: tiny models with random weights, in ComfyUI's own classes, and sampling with them."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import comfy.cli_args

comfy.cli_args.args.cpu = True

import comfy.model_patcher  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.supported_models as supported  # noqa: E402
import torch  # noqa: E402
from comfy.quant_ops import QuantizedTensor  # noqa: E402
from comfy.utils import detect_layer_quantization  # noqa: E402

from promptmill.quantization.architectures import Architecture, recognise  # noqa: E402
from promptmill.sampling import RowGuider, RowNoise  # noqa: E402
from promptmill.sampling.accelerate import blocks  # noqa: E402

STEPS, CONTEXT, POOLED = 2, 32, 24
LUMINA: dict[str, Any] = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 256,
    "n_layers": 2,
    "n_refiner_layers": 1,
    "n_heads": 4,
    "multiple_of": 256,
    "ffn_dim_multiplier": 1.0,
    "qk_norm": True,
    "cap_feat_dim": CONTEXT,
    "axes_dims": [16, 24, 24],
    "axes_lens": [300, 512, 512],
}
FLUX: dict[str, Any] = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": POOLED,
    "context_in_dim": CONTEXT,
    "hidden_size": 256,
    "mlp_ratio": 2.0,
    "num_heads": 4,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [16, 24, 24],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}
FLUX2 = {
    "image_model": "flux2",
    "in_channels": 128,
    "out_channels": 128,
    "patch_size": 1,
    "vec_in_dim": None,
    "qkv_bias": False,
    "global_modulation": True,
    "mlp_silu_act": True,
    "ops_bias": False,
    "axes_dim": [16, 16, 16, 16],
    "txt_ids_dims": [3],
}
SD35 = {
    "input_size": None,
    "patch_size": 2,
    "in_channels": 16,
    "depth": 4,
    "num_blocks": 4,
    "num_patches": 64,
    "pos_embed_max_size": 8,
    "adm_in_channels": POOLED,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": CONTEXT, "out_features": 256},
    },
    "qk_norm": "rms",
    "x_block_self_attn_layers": [0, 1],
}
CONFIGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ernie": (
        supported.ErnieImage,
        {
            "image_model": "ernie",
            "hidden_size": 256,
            "num_attention_heads": 2,
            "num_layers": 2,
            "ffn_hidden_size": 512,
            "text_in_dim": CONTEXT,
            "rope_axes_dim": (32, 48, 48),
        },
    ),
    "zimage": (
        supported.ZImage,
        {
            **LUMINA,
            "n_kv_heads": 4,
            "rope_theta": 256.0,
            "z_image_modulation": True,
            "time_scale": 1000.0,
            "pad_tokens_multiple": 32,
        },
    ),
    "lumina2": (supported.Lumina2, {**LUMINA, "n_kv_heads": 2}),
    "sd35": (supported.SD3, SD35),
    "flux": (supported.Flux, FLUX),
    "flux2": (supported.Flux2, {**FLUX, **FLUX2}),
    "qwen": (
        supported.QwenImage,
        {
            "image_model": "qwen_image",
            "in_channels": 64,
            "num_layers": 2,
            "attention_head_dim": 128,
            "num_attention_heads": 2,
            "joint_attention_dim": CONTEXT,
        },
    ),
}
SHAPES = {"ernie": (128, 8, 8), "flux2": (128, 8, 8), "qwen": (16, 1, 16, 16)}
"""Of a latent, (16, 16, 16) of others: 64 tokens of image."""

FP8: tuple[Any, ...] = ({"format": "float8_e4m3fn"}, "TensorCoreFP8E4M3Layout", {"scale": "recalculate"})
ROTATED = {"convrot": True, "convrot_groupsize": 256}
FORMATS: dict[str, tuple[Any, ...]] = {
    "fp8 dynamic": FP8,
    "fp8 static": FP8,
    "int8": ({"format": "int8_tensorwise"}, "TensorWiseINT8Layout", {"per_channel": True}),
    "int8 convrot": (
        {"format": "int8_tensorwise", **ROTATED},
        "TensorWiseINT8Layout",
        {"per_channel": True, **ROTATED},
    ),
    "mxfp8": ({"format": "mxfp8"}, "TensorCoreMXFP8Layout", {}),
}


@contextmanager
def changed(owner: Any, **values: Any) -> Iterator[None]:
    """While open, an object has these attributes."""
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The norm of the difference, as a share."""
    return float((found - expected).norm() / expected.norm())


@cache
def random_weights(name: str, massive: bool = False) -> dict[str, torch.Tensor]:
    """:param massive: of norms, so that some inputs of layers are beyond 448."""
    kind, unet = CONFIGS[name]
    config = kind(unet)
    config.set_inference_dtype(torch.float32, None)
    generator = torch.Generator().manual_seed(1)
    weights = {}
    for key, weight in config.get_model({}, "").diffusion_model.state_dict().items():
        spread = 1.3 / weight.shape[-1] ** 0.5 if weight.ndim > 1 else 0.05
        is_norm = "norm" in key or key.endswith(("ln.weight", "ln_q.weight", "ln_k.weight"))
        weights[key] = torch.randn(weight.shape, generator=generator) * spread + is_norm
    if massive:
        for key in weights:
            if key.endswith("adaLN_mlp_ln.weight"):
                weights[key][3] = 2000.0
    return weights


@cache
def architecture(name: str) -> Architecture:
    """What is quantized of it."""
    found, _ = recognise(random_weights(name))
    assert found is not None
    return found


def quantized_layers(name: str) -> list[str]:
    """Those of a file that `promptmill quantize` makes."""
    weights = random_weights(name)
    layers = [key.removesuffix(".weight") for key, weight in weights.items() if weight.ndim == 2]
    return [layer for layer in layers if architecture(name).quantizes(layer)]


def quantized(name: str, form: str, massive: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of a file."""
    weights = dict(random_weights(name, massive))
    if form not in FORMATS:
        return weights
    about, layout, how = FORMATS[form]
    for layer in quantized_layers(name):
        key = f"{layer}.weight"
        stored = QuantizedTensor.from_float(weights[key], layout, **how).state_dict(key)
        vectors = {"full_precision_matrix_mult": True} if architecture(name).is_weight_only(layer) else {}
        as_json = list(json.dumps(about | vectors).encode())
        weights |= stored | {f"{layer}.comfy_quant": torch.tensor(as_json, dtype=torch.uint8)}
    if form == "fp8 static":
        weights |= {
            f"{layer}.input_scale": 2 * most / 448
            for layer, most in largest_inputs(name).items()
            if not architecture(name).is_weight_only(layer)
        }
    return weights


@cache
def largest_inputs(name: str) -> dict[str, torch.Tensor]:
    """Of each quantized layer."""
    patcher, found = made("fp32", name=name), {}
    hooks = []
    for layer in quantized_layers(name):

        def see(_: Any, args: tuple[torch.Tensor, ...], layer: str = layer) -> None:
            found[layer] = args[0].abs().amax()

        module = patcher.model.diffusion_model.get_submodule(layer)
        hooks.append(module.register_forward_pre_hook(see))
    sample(patcher, [9])
    for hook in hooks:
        hook.remove()
    return found


def made(form: str, massive: bool = False, emulated: bool = False, name: str = "ernie") -> Any:
    """
    A MODEL of random weights.

    :param emulated: leave FP8 products to ComfyUI's rule, which on a CPU makes none.
    """
    weights = quantized(name, form, massive)
    kind, unet = CONFIGS[name]
    config = kind(unet)
    config.quant_config = detect_layer_quantization(weights, "")
    compute = torch.bfloat16 if form == "bf16" else torch.float32
    stored = torch.float8_e4m3fn if form == "unscaled fp8" else compute
    config.set_inference_dtype(stored, compute)
    built = config.get_model(weights, "")
    cpu = torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(built, cpu, cpu)
    built.load_model_weights(weights, "")
    for key, layer in built.diffusion_model.named_modules():
        if (
            hasattr(layer, "_full_precision_mm")
            and not emulated
            and not architecture(name).is_weight_only(key)
        ):
            layer._full_precision_mm = False
    return patcher


def conditioning(row: int, length: int, **more: Any) -> list[list[Any]]:
    """A prompt of so many tokens."""
    generator = torch.Generator().manual_seed(100 + row)
    text = torch.randn(1, length, CONTEXT, generator=generator)
    return [[text, {"pooled_output": torch.randn(1, POOLED, generator=generator), **more}]]


def sample(
    patcher: Any, lengths: Sequence[int], rows: Sequence[int] | None = None, cfg: float = 1.0, **more: Any
) -> torch.Tensor:
    """Rows of prompts of these lengths, one batch: 64 tokens of image each."""
    rows = range(len(lengths)) if rows is None else rows
    seeds = list(rows)
    name = name_of(patcher)
    latent = torch.zeros(len(lengths), *SHAPES.get(name, (16, 16, 16)))
    positive = [conditioning(row, length, **more) for row, length in zip(rows, lengths, strict=True)]
    guider = RowGuider(patcher, positive, [conditioning(99, 7, **more)] * len(seeds), cfg, seeds)
    sampled = guider.sample(
        RowNoise(seeds).generate_noise({"samples": latent}),
        latent,
        comfy.samplers.sampler_object("euler"),
        comfy.samplers.KSampler(patcher, STEPS, torch.device("cpu"), "euler", "simple").sigmas,
        disable_pbar=True,
    )
    return sampled.cpu()


def name_of(patcher: Any) -> str:
    """Of its configuration."""
    kind = type(patcher.model.model_config)
    return next(name for name, (known, _) in CONFIGS.items() if known is kind)


class Keep(logging.Handler):
    """What promptmill said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "promptmill" in record.getMessage():
            self.lines.append(record.getMessage())


def answer(*functions: Callable[..., dict[str, Any]]) -> None:
    """Read a JSON list of cases on stdin, print a JSON object a case: what the function that it names finds, and what was ``said``."""
    by_name = {function.__name__: function for function in functions}
    keep = Keep()
    logging.getLogger().addHandler(keep)
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger("comfy_kitchen").setLevel(logging.ERROR)  # it warns of each product that a CPU has not
    blocks.BACKEND = "eager"
    with torch.inference_mode():
        for case in json.load(sys.stdin):
            keep.lines.clear()
            found = by_name[case.pop("do")](**case)
            print(json.dumps({**found, "said": keep.lines}), flush=True)
