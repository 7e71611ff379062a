"""Runs with ComfyUI's Python: writes a quantized file, loads it as ComfyUI does, and prints what was found as JSON.

Arguments: a folder, the demo checkpoint; on stdin a JSON list of [model, format]. An object a line for each.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import comfy.cli_args

comfy.cli_args.args.cpu = True

import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.supported_models as supported  # noqa: E402
import comfy.utils  # noqa: E402
import torch  # noqa: E402
from comfy.quant_ops import QuantizedTensor  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from promptmill.quantization.checkpoint import Checkpoint  # noqa: E402
from promptmill.quantization.convert import Recipe, convert  # noqa: E402
from promptmill.quantization.formats import FORMATS  # noqa: E402

CONTEXT = 32
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ernie": (
        supported.ErnieImage,
        {
            "image_model": "ernie",
            "hidden_size": 256,
            "num_attention_heads": 4,
            "num_layers": 2,
            "ffn_hidden_size": 768,
            "text_in_dim": CONTEXT,
            "rope_axes_dim": (16, 24, 24),
        },
    ),
    "zimage": (
        supported.ZImage,
        {
            "image_model": "lumina2",
            "patch_size": 2,
            "in_channels": 16,
            "dim": 256,
            "n_layers": 2,
            "n_refiner_layers": 1,
            "n_heads": 8,
            "n_kv_heads": 8,
            "multiple_of": 256,
            "ffn_dim_multiplier": 1.0,
            "qk_norm": True,
            "cap_feat_dim": CONTEXT,
            "axes_dims": [8, 12, 12],
            "axes_lens": [64, 32, 32],
            "rope_theta": 256.0,
            "z_image_modulation": True,
            "time_scale": 1000.0,
            "pad_tokens_multiple": 32,
        },
    ),
}
warnings: list[str] = []


class Keep(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warnings.append(record.getMessage())


logging.getLogger().addHandler(Keep(level=logging.WARNING))


def random_weights(name: str, path: Path) -> None:
    kind, unet = MODELS[name]
    config = kind(unet)
    config.set_inference_dtype(torch.float32, None)
    generator = torch.Generator().manual_seed(1)
    weights = {}
    for key, weight in config.get_model({}, "").diffusion_model.state_dict().items():
        gain = weight.ndim == 1 and key.endswith("weight")
        spread = weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.1
        weights[key] = torch.randn(weight.shape, generator=generator) * spread + gain
    save_file(weights, path)


def load_model(name: str, path: Path) -> Any:
    """As comfy.sd.load_diffusion_model does, but for the sizes, which it cannot know of a tiny model."""
    if name == "demo":
        return comfy.sd.load_checkpoint_guess_config(str(path), output_vae=False, output_clip=False)[0]
    weights, metadata = comfy.utils.load_torch_file(str(path), return_metadata=True)
    weights, metadata = comfy.utils.convert_old_quants(weights, "", metadata=metadata)
    weights = {key.removeprefix("model.diffusion_model."): weight for key, weight in weights.items()}
    kind, unet = MODELS[name]
    config = kind(unet)
    config.quant_config = comfy.utils.detect_layer_quantization(weights, "")
    config.set_inference_dtype(torch.float32, torch.float32 if config.quant_config else None)
    model = config.get_model(weights, "")
    cpu = torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(model, cpu, cpu)
    model.load_model_weights(weights, "")
    return patcher


def output(name: str, patcher: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    channels = {"ernie": 128, "zimage": 16, "demo": patcher.model.latent_format.latent_channels}[name]
    x = torch.randn(2, channels, 16, 16, generator=generator)
    if name == "demo":
        named = {"y": torch.randn(2, 2048, generator=generator)}
        context = torch.randn(2, 77, 4096, generator=generator)
    else:
        context = torch.randn(2, 32, CONTEXT, generator=generator)
        named = (
            {"attention_mask": torch.ones(2, 32, dtype=torch.long), "num_tokens": 32}
            if name == "zimage"
            else {}
        )
    comfy.model_management.load_models_gpu([patcher])
    with torch.inference_mode():
        made: torch.Tensor = patcher.model.apply_model(
            x, torch.tensor([0.7, 0.3]), c_crossattn=context, **named
        )
    return made.float()


def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def quantized_layers(patcher: Any) -> dict[str, QuantizedTensor]:
    return {
        name: module.weight
        for name, module in patcher.model.diffusion_model.named_modules()
        if isinstance(getattr(module, "weight", None), QuantizedTensor)
    }


def lora(patcher: Any, deltas: dict[str, torch.Tensor]) -> Any:
    changed = patcher.clone()
    changed.add_patches(
        {f"diffusion_model.{name}.weight": ("diff", (delta,)) for name, delta in deltas.items()}
    )
    return changed


def examine(folder: Path, demo: Path, name: str, form: str) -> dict[str, Any]:
    source, target = folder / f"{name}.safetensors", folder / f"{name}-{form}.safetensors"
    if name == "demo":
        source = demo
    elif not source.exists():
        random_weights(name, source)
    report = convert(Checkpoint(source), target, Recipe(FORMATS[form]))
    warnings.clear()
    plain, quantized = load_model(name, source), load_model(name, target)
    said = [line for line in warnings if "unet missing" in line or "unet unexpected" in line]
    layers = quantized_layers(quantized)
    if name == "demo":
        alone = quantized_layers(comfy.sd.load_diffusion_model(str(target)))
        said += [line for line in warnings if "unet unexpected" in line and line not in said]
        said += [f"{len(alone)} layers by Load Diffusion Model"] * (len(alone) != len(layers))
    wanted = output(name, plain)

    saved = folder / "saved.safetensors"
    comfy.sd.save_checkpoint(str(saved), quantized)
    again = load_model(name, saved)

    generator = torch.Generator().manual_seed(3)
    deltas = {}
    for layer, weight in layers.items():
        down, up = (
            torch.randn(size, generator=generator) for size in ((4, weight.shape[1]), (weight.shape[0], 4))
        )
        deltas[layer] = 0.2 * weight.dequantize().float().norm() * (up @ down) / (up @ down).norm()
    merged = lora(plain, deltas)
    with_lora = output(name, merged)
    before = folder / "before.safetensors"
    comfy.sd.save_checkpoint(str(before), merged)
    names = comfy.utils.load_torch_file(str(before))
    save_file({key: weight for key, weight in names.items() if "diffusion_model" in key}, before)
    convert(Checkpoint(before), folder / "after.safetensors", Recipe(FORMATS[form]), overwrite=True)
    return {
        "layers": len(layers),
        "reported": sum(layer.format is not None for layer in report.layers),
        "formats": sorted(
            {getattr(module, "quant_format", None) or "" for module in modules(quantized)} - {""}
        ),
        "said": said,
        "error": apart(output(name, quantized), wanted),
        "saved": apart(output(name, again), output(name, quantized)),
        "saved_layers": len(quantized_layers(again)),
        "effect_of_lora": apart(with_lora, wanted),
        "lora_after": apart(output(name, lora(quantized, deltas)), with_lora),
        "lora_before": apart(output(name, load_model(name, folder / "after.safetensors")), with_lora),
        "without_lora_again": apart(output(name, quantized), output(name, again)),
    }


def modules(patcher: Any) -> list[Any]:
    return list(patcher.model.diffusion_model.modules())


def main() -> None:
    folder, demo = map(Path, sys.argv[1:])
    for name, form in json.load(sys.stdin):
        print(json.dumps(examine(folder, demo, name, form)), flush=True)


main()
