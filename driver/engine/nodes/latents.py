"""Latents, and the way to them from pictures and back."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.checkpoint import Autoencoder
from .context import Context
from .sampling import Latent

SIDE = 8
"""Pixels along a latent's side."""


def _zeros(batch_size: int, channels: int, width: int, height: int) -> tuple[Latent]:
    return ({"samples": torch.zeros(batch_size, channels, height // SIDE, width // SIDE)},)


def empty(context: Context, *, width: int, height: int, batch_size: int) -> tuple[Latent]:
    """EmptyLatentImage."""
    return _zeros(batch_size, 4, width, height)


def empty_sd3(context: Context, *, width: int, height: int, batch_size: int) -> tuple[Latent]:
    """EmptySD3LatentImage."""
    return _zeros(batch_size, 16, width, height)


def encode(context: Context, *, pixels: Tensor, vae: Autoencoder) -> tuple[Latent]:
    """VAEEncode."""
    return ({"samples": vae.encode(pixels[..., :3])},)


def decode(context: Context, *, samples: Latent, vae: Autoencoder) -> tuple[Tensor]:
    """VAEDecode."""
    return (vae.decode(samples["samples"]),)


def decode_tiled(
    context: Context,
    *,
    samples: Latent,
    vae: Autoencoder,
    tile_size: int,
    overlap: int,
    temporal_size: int,
    temporal_overlap: int,
) -> tuple[Tensor]:
    """VAEDecodeTiled; the tiles are blended over their overlap, the temporal inputs are for video only."""
    latent = samples["samples"]
    tile, over = tile_size // SIDE, min(overlap, tile_size // 4) // SIDE
    batch, _, height, width = latent.shape
    pixels = torch.zeros(batch, height * SIDE, width * SIDE, 3)
    weights = torch.zeros(height * SIDE, width * SIDE, 1)
    for top in _starts(height, tile, over):
        for left in _starts(width, tile, over):
            part = vae.decode(latent[:, :, top : top + tile, left : left + tile]).cpu()
            weight = _ramp(part.shape[1], over)[:, None, None] * _ramp(part.shape[2], over)[None, :, None]
            rows = slice(top * SIDE, top * SIDE + part.shape[1])
            columns = slice(left * SIDE, left * SIDE + part.shape[2])
            pixels[:, rows, columns] += part * weight
            weights[rows, columns] += weight
    return (pixels / weights,)


def _starts(length: int, tile: int, over: int) -> list[int]:
    """Where tiles begin, so that the last one ends at the end."""
    last = max(0, length - tile)
    return [*range(0, last, tile - over), last]


def _ramp(length: int, over: int) -> Tensor:
    """Weights that rise from the tile's edge to 1 over the overlap."""
    distance = torch.arange(length) + 0.5
    return torch.minimum(distance, distance.flip(0)).div(max(over * SIDE, 1)).clamp(max=1.0)
