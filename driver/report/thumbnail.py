"""Small pictures for the contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .replacing import replacing

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL_SIZE = 256


def save_thumbnail(image: Image, out: Path, sha256: str) -> str:
    """Write ``out/thumbnails/ab/abcdef....jpg`` and return that path relative to ``out``, with ``/``.

    The name comes from the image's hash, so equal images share one thumbnail and an existing one is kept.
    The longest side is 256 pixels, or less when the image is smaller; transparency is shown over white, and
    16-bit grey is scaled to 8 bits. ``image`` is not changed. Safe to call from several threads.
    """
    from PIL import Image as images

    name = f"thumbnails/{sha256[:2]}/{sha256[:20]}.jpg"
    path = out / name
    if path.exists():
        return name
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        small = image.convert("RGBA")
        small.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
        white = images.new("RGBA", small.size, "white")
        small = images.alpha_composite(white, small).convert("RGB")
    else:
        small = image.convert("RGB")
        small.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    with replacing(path) as part:
        small.save(part, "JPEG", quality=82, optimize=True)
    return name
