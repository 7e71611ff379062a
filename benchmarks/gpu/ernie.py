"""ERNIE-Image in full size with random weights, in ComfyUI's own classes."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import comfy.sd
import torch
from comfy import memory_management, model_management, samplers
from comfy.ldm.ernie.model import ErnieImageModel
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.supported_models import ErnieImage
from comfyui import end_of_node

from promptmill.sampling import RowGuider, RowNoise

WIDTH, HEIGHT, STEPS = 1264, 848, 8
TINY = {
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_layers": 2,
    "ffn_hidden_size": 96,
    "rope_axes_dim": (8, 12, 12),
}
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp8": torch.float8_e4m3fn}
LENGTHS = (100, 220, 60, 260, 130, 190, 40, 280)
"""Tokens of prompts of different lengths; each pair has as many as two of EQUAL."""
EQUAL = 160


def model(kind: str, **config: Any) -> Any:
    """A MODEL of one of TYPES; fp8 is what UNETLoader makes with fp8_e4m3fn_fast."""
    dtype, device = TYPES[kind], model_management.get_torch_device()
    generator = torch.Generator(device).manual_seed(1)
    weights = {}
    for name, like in ErnieImageModel(**config, device="meta", operations=torch.nn).state_dict().items():
        gain = "norm" in name or name.endswith("ln.weight")
        spread = 1.3 / like[0].numel() ** 0.5 if like.ndim > 1 else 0.02
        weight = torch.randn(like.shape, generator=generator, device=device) * spread + gain
        weights[name] = weight.to(dtype).cpu()
    found = ErnieImage({"image_model": "ernie", **config})
    found.set_inference_dtype(dtype, torch.bfloat16 if kind == "fp8" else None, device=device)
    found.optimizations["fp8"] = kind == "fp8"
    offload = model_management.unet_offload_device()
    built = found.get_model(weights, "", device=offload)
    patcher = comfy.model_patcher.CoreModelPatcher(built, device, offload)
    built.load_model_weights(weights, "", assign=patcher.is_dynamic())
    return patcher


def vae() -> Any:
    """A VAE of the shape of ERNIE-Image's, which is Flux.2's."""
    config = {
        "double_z": True,
        "z_channels": 32,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 128,
        "ch_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
        "batch_norm_latent": True,
    }
    dynamic, memory_management.aimdo_enabled = memory_management.aimdo_enabled, False
    weights = AutoencoderKL(ddconfig=config, embed_dim=32).state_dict()
    memory_management.aimdo_enabled = dynamic  # which leaves weights out until they are loaded
    generator = torch.Generator().manual_seed(2)
    for name, weight in weights.items():
        if weight.is_floating_point():
            gain = ("norm" in name and name.endswith("weight")) or "running_var" in name
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.02 + gain)
    return comfy.sd.VAE(sd=weights)


def conditioning(number: int, length: int) -> list[list[Any]]:
    generator = torch.Generator().manual_seed(number)
    return [[torch.randn(1, length, 3072, generator=generator), {}]]


def latents(count: int, width: int = WIDTH, height: int = HEIGHT) -> torch.Tensor:
    return torch.zeros(count, 128, height // 16, width // 16)


def sample(patcher: Any, count: int, steps: int, *size: int) -> torch.Tensor:
    """Rows of prompts of one length, in one batch."""
    latent, seeds = latents(count, *size), list(range(count))
    positive = [conditioning(row, EQUAL) for row in seeds]
    found = RowGuider(patcher, positive, [conditioning(99, 20)] * count, 1.0, seeds).sample(
        RowNoise(seeds).generate_noise({"samples": latent}),
        latent,
        samplers.sampler_object("euler"),
        samplers.KSampler(patcher, steps, patcher.load_device, "euler", "simple").sigmas,
        disable_pbar=True,
        seed=0,
    )
    end_of_node()
    return found.cpu()
