"""Pictures: what a graph would paint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

from ..protocol import Graph, is_link, upstream
from ..protocol.files import png

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
    above = {node_id: graph[node_id] for node_id in upstream(graph, [source])}
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


def encode(image: Image.Image, metadata: dict[str, Any]) -> bytes:
    """Encode as PNG, quickly."""
    noise_only = max(image.size) <= TILE  # which zlib cannot shrink, but takes its time to find out
    return png(image, metadata, compress_level=0 if noise_only else 1)
