"""Pictures: tensors [B, H, W, 3] of float32 in 0..1, files, and sizes."""

from __future__ import annotations

import math
import random

import numpy as np
import torch
from PIL import Image, ImageOps, ImageSequence
from torch import Tensor
from torch.nn.functional import interpolate

from ...protocol import Made
from ...protocol.files import png
from .context import Context


def empty(context: Context, *, width: int, height: int, batch_size: int, color: int) -> tuple[Tensor]:
    """EmptyImage."""
    rgb = torch.tensor([color >> 16 & 255, color >> 8 & 255, color & 255]) / 255
    return (rgb.expand(batch_size, height, width, 3).clone(),)


def load(context: Context, *, image: str) -> tuple[Tensor, Tensor]:
    """LoadImage: turned as EXIF says; the mask [B, H, W] is 1 where the picture is transparent."""
    pictures: list[Tensor] = []
    masks: list[Tensor] = []
    with Image.open(context.input_file(image)) as file:
        for frame in ImageSequence.Iterator(file):
            if file.format == "GIF":  # transparent everywhere is white, and every frame has a mask
                white = Image.new("RGBA", frame.size, (255, 255, 255, 0))
                frame = Image.alpha_composite(white, frame.convert("RGBA"))
            picture, mask = _tensors(ImageOps.exif_transpose(frame))
            if not pictures or picture.shape == pictures[0].shape:
                pictures.append(picture)
                masks.append(mask)
    return torch.stack(pictures), torch.stack(masks)


def _tensors(picture: Image.Image) -> tuple[Tensor, Tensor]:
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to white
        picture = Image.fromarray((np.asarray(picture) / 257).round().astype(np.uint8))
    mask = torch.zeros(64, 64)
    if "A" in picture.getbands() or picture.mode == "P" or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        mask = 1 - _floats(picture.getchannel("A"))
    return _floats(picture.convert("RGB")), mask


def _floats(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).float() / 255


def scale(
    context: Context, *, image: Tensor, upscale_method: str, width: int, height: int, crop: str
) -> tuple[Tensor]:
    """ImageScale: a side of 0 follows from the other; ``crop`` "center" keeps the proportions."""
    old_height, old_width = image.shape[1:3]
    if not (width or height):
        return (image,)
    width = width or max(1, round(old_width * height / old_height))
    height = height or max(1, round(old_height * width / old_width))
    if crop == "center":
        old, new = old_width / old_height, width / height
        x = round((old_width - old_width * (new / old)) / 2) if new < old else 0
        y = round((old_height - old_height * (old / new)) / 2) if old < new else 0
        image = image[:, y : old_height - y, x : old_width - x]
    return (_resized(image, width, height, upscale_method),)


def scale_to_total_pixels(
    context: Context, *, image: Tensor, upscale_method: str, megapixels: float, resolution_steps: int
) -> tuple[Tensor]:
    """ImageScaleToTotalPixels: megapixels of 1024 x 1024, sides rounded to a multiple of ``resolution_steps``."""
    height, width = image.shape[1:3]
    factor = math.sqrt(megapixels * 1024 * 1024 / (width * height))
    width, height = (round(side * factor / resolution_steps) * resolution_steps for side in (width, height))
    return (_resized(image, width, height, upscale_method),)


def _resized(image: Tensor, width: int, height: int, method: str) -> Tensor:
    if method != "lanczos":
        return interpolate(image.movedim(-1, 1), size=(height, width), mode=method).movedim(1, -1)
    pictures = [Image.fromarray(picture) for picture in _bytes(image)]
    return torch.stack([_floats(it.resize((width, height), Image.Resampling.LANCZOS)) for it in pictures])


def _bytes(images: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Cut off, not rounded; NaN becomes black: both as ComfyUI saves."""
    return images.mul(255).nan_to_num(0.0).clamp(0, 255).byte().cpu().numpy()


def save(context: Context, *, images: Tensor, filename_prefix: str) -> Made:
    """SaveImage."""
    return _saved(context, images, "output", filename_prefix, compress_level=4)


def preview(context: Context, *, images: Tensor) -> Made:
    """PreviewImage."""
    letters = "".join(random.choices("abcdefghijklmnopqrstupvxyz", k=5))
    return _saved(context, images, "temp", f"ComfyUI_temp_{letters}", compress_level=1)


def _saved(context: Context, images: Tensor, kind: str, prefix: str, compress_level: int) -> Made:
    files = []
    for index, pixels in enumerate(_bytes(images)):
        picture = Image.fromarray(pixels)
        data = png(picture, context.metadata, compress_level)
        name, subfolder = context.savers[kind].save(prefix, data, index, picture.size)
        files.append({"filename": name, "subfolder": subfolder, "type": kind})
    return Made((images,), {"images": files})
