"""What can be known of a diffusers folder before its weights are loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .....errors import CheckpointError
from ..checkpoint import COMFYUI_SCALES

AGAIN = "download the folder again; a download that was cut off leaves such files"


def read_json(path: Path) -> dict[str, Any]:
    """
    Read one JSON object.

    :raises CheckpointError: the file is missing, or is no JSON object.
    """
    read = _parse(path)
    if not isinstance(read, dict):
        raise CheckpointError("the file should hold a JSON object", where=str(path), value=read, hint=AGAIN)
    return read


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the file cannot be read: {error}", where=str(path), hint=AGAIN) from error


def problems(part: Path, config: str) -> Iterator[CheckpointError]:
    """Yield what is wrong with the JSON files of one part of a pipeline, a folder that must hold ``config``."""
    for path in sorted({part / config, *part.glob("*.json")}):
        try:
            read_json(path) if path.name == config else _parse(path)
        except CheckpointError as problem:
            yield problem


def weight_problems(part: Path, stem: str) -> Iterator[CheckpointError]:
    """Yield what is wrong with the weights of one model: ``stem``.safetensors or the shards that its index names."""
    index = part / f"{stem}.safetensors.index.json"
    try:
        shards = set(read_json(index)["weight_map"].values()) if index.exists() else {f"{stem}.safetensors"}
    except CheckpointError:
        return  # problems() tells of it
    for path in sorted(part / shard for shard in shards):
        if not path.exists():
            others = ", ".join(
                sorted(p.name for p in part.glob("*") if p.suffix in {".bin", ".pt", ".ckpt", ".safetensors"})
            )
            yield CheckpointError(
                "the weights are missing",
                where=str(path),
                value=others or None,
                hint=f"only .safetensors files of this name are loaded, pickles never: {AGAIN}",
            )
            continue
        try:
            with safe_open(path, framework="pt") as opened:
                scaled = [key for key in opened.keys() if key.endswith(COMFYUI_SCALES)]  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            yield CheckpointError(f"the weights are damaged: {error}", where=str(path), hint=AGAIN)
            continue
        if scaled:
            yield CheckpointError(
                "these weights were quantized for ComfyUI; diffusers would drop their scales and draw noise",
                where=str(path),
                value=scaled[0],
                hint="use the folder's original weights with precision fp8 or int8, or this file in ComfyUI",
            )
