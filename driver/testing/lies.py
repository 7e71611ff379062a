"""What may be written instead of the picture: ``fake.on_prompt(...).saves(lies.black)``."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image


def _again(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def black(png: bytes) -> bytes:
    """The picture of a model that computed NaN everywhere."""
    return _again(Image.new("RGB", Image.open(io.BytesIO(png)).size))


def truncated(png: bytes) -> bytes:
    """The first half, as a full disk leaves it."""
    return png[: len(png) // 2]


def empty(png: bytes) -> bytes:
    """No bytes at all."""
    return b""


def sized(width: int, height: int) -> Callable[[bytes], bytes]:
    """A picture of another size."""
    return lambda png: _again(Image.open(io.BytesIO(png)).resize((width, height)))
