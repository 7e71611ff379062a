"""Previews as ComfyUI sends them: JPEG, the longer side 512 pixels."""

from __future__ import annotations

import io

from PIL import Image, ImageOps
from torch import Tensor

LARGEST_SIDE = 512


def jpeg(pixels: Tensor) -> bytes:
    """Encode the first of the pictures [B, H, W, 3] in 0..1."""
    image = Image.fromarray(pixels[0].nan_to_num(0.0).mul(255).clamp(0, 255).byte().cpu().numpy())
    buffer = io.BytesIO()
    contained = ImageOps.contain(image, (LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BILINEAR)
    contained.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()
