"""Pictures: what a graph would paint, as PNG files named and annotated as SaveImage does."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .validation import Graph, is_link, upstream

TILE = 64
Paint = Callable[[Graph, int, int, int], Image.Image]


def noise(key: str, width: int, height: int) -> Image.Image:
    """RGB noise that depends on the key alone, in blocks, so that large pictures stay small files."""
    tile = (min(width, TILE), min(height, TILE))
    pixels = hashlib.shake_128(key.encode()).digest(tile[0] * tile[1] * 3)
    image = Image.frombytes("RGB", tile, pixels)
    return image if tile == (width, height) else image.resize((width, height), Image.Resampling.NEAREST)


def paint_all(graph: Graph, saver: str, paint: Paint | None = None) -> Iterator[Image.Image]:
    """
    Make the batch that reaches a saver: of one color from EmptyImage, noise from anything else.

    Every input above the saver shapes the noise: another seed or text is another picture.

    :param paint: called with the graph, width, height and index in the batch instead.
    """
    source = graph[saver]["inputs"]["images"][0]
    above = {node_id: graph[node_id] for node_id in upstream(graph, source)}
    inputs = {
        name: value for node in above.values() for name, value in node["inputs"].items() if not is_link(value)
    }
    width, height = int(inputs.get("width", 512)), int(inputs.get("height", 512))
    key = json.dumps({node_id: (node["class_type"], node["inputs"]) for node_id, node in above.items()})
    for index in range(int(inputs.get("batch_size", 1))):
        if paint:
            yield paint(graph, width, height, index)
        elif graph[source]["class_type"] == "EmptyImage":
            yield Image.new("RGB", (width, height), f"#{inputs['color']:06x}")
        else:
            yield noise(f"{index} {key}", width, height)


def png(image: Image.Image, metadata: dict[str, Any]) -> bytes:
    """Encode with one tEXt chunk of JSON for each key."""
    chunks = PngInfo()
    for name, value in metadata.items():
        chunks.add_text(name, json.dumps(value))
    buffer = io.BytesIO()
    noise_only = max(image.size) <= TILE  # which zlib cannot shrink, but takes its time to find out
    image.save(buffer, "PNG", pnginfo=chunks, compress_level=0 if noise_only else 1)
    return buffer.getvalue()


class Folder:
    """
    An output folder in which files are numbered: ``{prefix}_00001_.png``.

    The numbers in use are read once for each subfolder, where SaveImage lists it for every image, and like
    there the file is not created exclusively: two servers with one folder and one prefix overwrite each other.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._last: dict[tuple[str, str], int] = {}
        self._listed: set[str] = set()

    def save(self, prefix: str, data: bytes) -> tuple[str, str]:
        """Write the next file of a prefix; return its name and its subfolder."""
        path = PurePath(os.path.normpath(prefix))
        if path.is_absolute() or path.parts[0] == os.pardir:
            raise ValueError("**** ERROR: Saving image outside the output folder is not allowed.")
        name = path.name
        subfolder = "" if path.parent == PurePath() else str(path.parent)
        self._list(subfolder)
        number = self._last[subfolder, name] = self._last.get((subfolder, name), 0) + 1
        file = f"{name}_{number:05}_.png"
        (self.root / subfolder / file).write_bytes(data)
        return file, subfolder

    def _list(self, subfolder: str) -> None:
        if subfolder in self._listed:
            return
        self._listed.add(subfolder)
        folder = self.root / subfolder
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*_.png"):
            name, _, number = file.name.removesuffix("_.png").rpartition("_")
            if number.isdecimal():
                self._last[subfolder, name] = max(int(number), self._last.get((subfolder, name), 0))
