"""The file to be written: whether it may be, and what is to stand in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

from torch import Tensor

from ..errors import OutputError
from .checkpoint import QUANTIZATION, Checkpoint, Source, TensorInfo, announced
from .journal import CONVERSION
from .recipe import Recipe
from .selection import Layer

MADE_BY = "promptmill"
"""Where a file's metadata says how it was made."""


def check_target(source: Source, target: Path, overwrite: bool) -> None:
    """:raises OutputError: the target is no place for a quantized copy of the source."""
    if target.suffix.lower() not in (".safetensors", ".sft"):
        raise OutputError(
            "ComfyUI knows these files by their ending", where=str(target), hint=f"{target}.safetensors"
        )
    if not target.exists():
        return
    if isinstance(source, Checkpoint) and target.samefile(source.path):
        raise OutputError("the target is the source", where=str(target), hint="choose another name")
    if not overwrite:
        raise OutputError("the file exists", where=str(target), hint="--overwrite, or choose another name")


def check_space(target: Path, part: Path, size: int) -> None:
    """
    :param part: what there is of the target already.
    :raises OutputError: its disk has no room for the rest.
    """
    missing = size - part.stat().st_size - shutil.disk_usage(target.parent).free
    if missing > 0:
        raise OutputError(
            f"the disk is too full: {missing / 1e9:.2f} GB more are needed",
            where=str(target),
            hint="make room on this disk; the same command goes on",
        )


def tensors_of(
    source: Source, recipe: Recipe, weights: Mapping[str, Layer], constants: Mapping[str, Tensor]
) -> dict[str, TensorInfo]:
    """
    The tensors of the target.

    :param weights: the source's tensors that are quantized.
    :param constants: what is written for their layers whatever the weights are.
    """
    tensors: dict[str, TensorInfo] = {}
    for name, info in source.names.items():
        if layer := weights.get(name):
            for part, stored in recipe.format.plan(info.shape).items():
                tensors[f"{layer.name}.{part}"] = TensorInfo(*stored)
        else:
            tensors[name] = info
    return tensors | {
        name: TensorInfo(tensor.dtype, tuple(tensor.shape)) for name, tensor in constants.items()
    }


def metadata_of(source: Source, recipe: Recipe, layers: Iterable[Layer]) -> dict[str, str]:
    """The source's own, what ComfyUI reads of quantized layers, and how the file was made."""
    quantized = announced(source) | {layer.name: recipe.config(layer) for layer in layers}
    made = {
        "format": recipe.format.name,
        "source": source.path.name if isinstance(source, Checkpoint) else "a model in memory",
        "keep": recipe.keep,
        "conversion": CONVERSION,
        "comfy-kitchen": version("comfy-kitchen"),
    }
    return {
        **source.metadata,
        QUANTIZATION: json.dumps({"format_version": "1.0", "layers": quantized}),
        MADE_BY: json.dumps(made),
    }
