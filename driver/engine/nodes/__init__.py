"""
What the node classes do.

A node is a function of a Context and of its inputs by their ComfyUI names. It returns a tuple of its outputs, or
a Made where it has something to show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...protocol import Made
from . import images, latents, sampling
from .context import Context

Run = Callable[..., "tuple[Any, ...] | Made"]

NODES: dict[str, Run] = {
    "CheckpointLoaderSimple": sampling.load_checkpoint,
    "CLIPTextEncode": sampling.encode_text,
    "ConditioningZeroOut": sampling.zero_out,
    "ModelSamplingSD3": sampling.shift_sampling,
    "KSampler": sampling.sample,
    "EmptyLatentImage": latents.empty,
    "EmptySD3LatentImage": latents.empty_sd3,
    "VAEDecode": latents.decode,
    "VAEDecodeTiled": latents.decode_tiled,
    "VAEEncode": latents.encode,
    "EmptyImage": images.empty,
    "LoadImage": images.load,
    "ImageScale": images.scale,
    "ImageScaleToTotalPixels": images.scale_to_total_pixels,
    "SaveImage": images.save,
    "PreviewImage": images.preview,
}

__all__ = ["NODES", "Context", "Run"]
