"""An image is accepted only when it decodes to its end, and is in its place only as a whole."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PromptmillError

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST = 1 << 30
"""Pixels; Pillow's own limit refuses what upscaling workflows really make."""
PNG_END = b"IEND\xaeB`\x82"


class ImageRefused(PromptmillError):
    """The server's image is not a good one."""

    code = "image"


def decode(data: bytes, *, expected_size: tuple[int, int] | None, allow_blank: bool) -> Image:
    """Decode an image file to its end and judge it.

    :param data: the file's bytes as the server saved them.
    :param expected_size: (width, height) in pixels, when the workflow tells it for certain.
    :param allow_blank: accept an image of one single colour.
    :raises ImageRefused: not an image, cut short, of another size, or blank (all-NaN latents decode to black).
    """
    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = LARGEST
    try:
        image = Image.open(io.BytesIO(data))
        if image.format == "PNG" and PNG_END not in data[-64 * 1024 :]:
            raise ImageRefused("the PNG is cut short", value=f"{len(data)} bytes without an end")
        image.load()
    except UnidentifiedImageError as error:
        raise ImageRefused("the server sent something that is no image", value=data[:40]) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageRefused(f"the image cannot be decoded: {error}", value=f"{len(data)} bytes") from error
    if expected_size and image.size != expected_size:
        wanted = f"{expected_size[0]}x{expected_size[1]}"
        raise ImageRefused(
            f"the image has the wrong size, expected {wanted}", value=f"{image.width}x{image.height}"
        )
    if not allow_blank and _is_blank(image):
        raise ImageRefused(
            "the image is blank: one colour everywhere, as NaN latents give",
            value=str(image.convert("RGB").getpixel((0, 0))),
            hint="a VAE or model in another precision; or --allow-blank when blank images are wanted",
        )
    return image


def made_by(path: Path, prefix: str) -> bool:
    """Whether the image at ``path`` carries ``prefix`` in the prompt that its server embedded."""
    return path.is_file() and prefix.encode() in path.read_bytes()


def _is_blank(image: Image) -> bool:
    """One value in every band, transparency included: a shape cut out in black is not blank."""
    own = image.convert("RGBA") if image.mode == "P" else image
    return all(low == high for low, high in (band.getextrema() for band in own.split()))
