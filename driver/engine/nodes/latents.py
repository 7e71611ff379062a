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
    return (vae.decode(samples["samples"]).clamp(0, 1),)


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
    """VAEDecodeTiled: the mean of three tilings; the temporal inputs are for video only."""
    tile, over = tile_size // SIDE, min(overlap, tile_size // 4) // SIDE
    shapes = (tile, tile), (tile // 2, tile * 2), (tile * 2, tile // 2)
    tilings = [_tiled(samples["samples"], vae, rows, columns, over) for rows, columns in shapes]
    return (torch.stack(tilings).mean(0).clamp(0, 1),)


def _tiled(latent: Tensor, vae: Autoencoder, rows: int, columns: int, over: int) -> Tensor:
    """Pixels [B, H, W, 3] from tiles of ``rows`` x ``columns`` in latents, blended where they overlap."""
    batch, _, height, width = latent.shape
    pixels = torch.zeros(batch, height * SIDE, width * SIDE, 3)
    weights = torch.zeros(height * SIDE, width * SIDE, 1)
    for top in _starts(height, rows, over):
        for left in _starts(width, columns, over):
            part = vae.decode(latent[:, :, top : top + rows, left : left + columns]).cpu()
            high, wide = part.shape[1:3]
            across, down = slice(left * SIDE, left * SIDE + wide), slice(top * SIDE, top * SIDE + high)
            weight = _ramp(high, over)[:, None, None] * _ramp(wide, over)[:, None]
            pixels[:, down, across] += part * weight
            weights[down, across] += weight
    return pixels / weights


def _starts(length: int, tile: int, over: int) -> range:
    """Where tiles begin; the last one may be cut off by the end."""
    return range(0, max(1, length - over), tile - over)


def _ramp(length: int, over: int) -> Tensor:
    """Weights that rise from both of the tile's edges to 1 over the overlap; all 1 where it is no wider than that."""
    feather = over * SIDE
    if length <= feather:
        return torch.ones(length)
    rising = (torch.arange(1, length + 1) / feather).clamp(max=1)
    return rising * rising.flip(0)
