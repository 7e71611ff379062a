"""Runs with ComfyUI's Python: what it takes a file for, before and after quantization, by the shapes of real models.

On stdin a JSON list of [model, format], null for all models of ComfyUI's list; a JSON object a line for each. Nothing is computed: all tensors are on the meta device.
"""

from __future__ import annotations

import json
import logging
import sys
from functools import cache
from typing import Any, ClassVar

import comfy.cli_args

comfy.cli_args.args.cpu = True

import comfy.supported_models as supported  # noqa: E402
import torch  # noqa: E402
from comfy import model_detection  # noqa: E402
from comfy.ops import CastWeightBiasOp  # noqa: E402

from promptmill.quantization.checkpoint import TensorInfo  # noqa: E402
from promptmill.quantization.formats import FORMATS  # noqa: E402
from promptmill.quantization.selection import select  # noqa: E402

SDXL = {
    "image_size": 32,
    "use_spatial_transformer": True,
    "legacy": False,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_middle": 10,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "channel_mult": [1, 2, 4],
    "use_linear_in_transformer": True,
    "context_dim": 2048,
    "num_head_channels": 64,
}
SD15 = {
    "num_classes": None,
    "adm_in_channels": None,
    "num_res_blocks": [2] * 4,
    "transformer_depth": [1] * 6 + [0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1] * 9 + [0] * 3,
    "channel_mult": [1, 2, 4, 4],
    "use_linear_in_transformer": False,
    "context_dim": 768,
    "num_heads": 8,
    "num_head_channels": -1,
}
FLUX = {
    "image_model": "flux",
    "axes_dim": [16, 56, 56],
    "num_heads": 24,
    "mlp_ratio": 4.0,
    "theta": 10000,
    "in_channels": 16,
    "out_channels": 16,
    "hidden_size": 3072,
    "context_in_dim": 4096,
    "vec_in_dim": 768,
    "patch_size": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}
ZIMAGE = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 3840,
    "cap_feat_dim": 2560,
    "n_layers": 2,
    "n_heads": 30,
    "n_kv_heads": 30,
    "qk_norm": True,
    "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512],
    "ffn_dim_multiplier": 8 / 3,
    "z_image_modulation": True,
    "pad_tokens_multiple": 32,
}
SD3 = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "depth": 24,
    "input_size": None,
    "num_patches": 36864,
    "pos_embed_max_size": 192,
    "pos_embed_scaling_factor": None,
    "adm_in_channels": 2048,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": 4096, "out_features": 1536},
    },
}
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "sd15": (supported.SD15, {**SDXL, **SD15}),
    "sdxl": (supported.SDXL, SDXL),
    "ltxv": (
        supported.LTXV,
        {"image_model": "ltxv", "attention_head_dim": 64, "cross_attention_dim": 2048, "num_layers": 2},
    ),
    "flux": (supported.Flux, FLUX),
    "z-image": (supported.ZImage, ZIMAGE),
    "sd3": (supported.SD3, SD3),
    "qwen-image": (
        supported.QwenImage,
        {"image_model": "qwen_image", "in_channels": 64, "num_layers": 2},
    ),
    "ernie-image": (supported.ErnieImage, {"image_model": "ernie", "num_layers": 2}),
}
"""Those whose sizes ComfyUI does not list itself."""


class OnlyNames:
    """A source of which nothing is read."""

    metadata: ClassVar[dict[str, str]] = {}

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.names = {name: TensorInfo(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}


@cache
def network_of(kind: Any, config: str) -> torch.nn.Module:
    model = kind(json.loads(config))
    model.set_inference_dtype(torch.bfloat16, None)
    with torch.device("meta"):
        return model.get_model({}, "", device=torch.device("meta")).diffusion_model


def is_linear(module: torch.nn.Module) -> bool:
    """Whether ComfyUI chooses its class by the layer's format."""
    return isinstance(module, CastWeightBiasOp) and type(module).__name__ == "Linear"


def detected(tensors: dict[str, torch.Tensor]) -> tuple[str, str]:
    config = model_detection.detect_unet_config(tensors, "") or {}
    found = model_detection.model_config_from_unet_config(config, tensors)
    return type(found).__name__, repr(config)


def look(kind: Any, config: dict[str, Any], form: str) -> dict[str, Any]:
    network = network_of(kind, json.dumps(config))
    before, modules = network.state_dict(), dict(network.named_modules())
    after = dict(before)
    _, layers = select(OnlyNames(before), kind.__name__, FORMATS[form], ())
    quantized = [layer for layer in layers if not layer.why_kept]
    for layer in quantized:
        for part, (dtype, shape) in FORMATS[form].plan(layer.info.shape).items():
            after[f"{layer.name}.{part}"] = torch.empty(shape, dtype=dtype, device="meta")
    return {
        "before": detected(before),
        "after": detected(after),
        "expected": kind.__name__,
        "not linear": [layer.name for layer in quantized if not is_linear(modules[layer.name])],
        "share": sum(layer.info.nbytes for layer in quantized)
        / sum(layer.info.nbytes for layer in layers if len(layer.info.shape) == 2),
    }


def look_at_listed(form: str) -> dict[str, Any]:
    """All models that ComfyUI can build from what it lists of them; but Stable Cascade's schedule takes a minute on these tensors."""
    found = {}
    for kind in supported.models:
        if issubclass(kind, supported.Stable_Cascade_C):
            continue
        try:
            network_of(kind, json.dumps(kind.unet_config))
        except (TypeError, KeyError, RuntimeError, AssertionError):
            continue
        found[kind.__name__] = look(kind, kind.unet_config, form)
    return found


logging.disable(logging.ERROR)
for model, form in json.load(sys.stdin):
    print(json.dumps(look(*MODELS[model], form) if model else look_at_listed(form)), flush=True)
