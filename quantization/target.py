"""The file to be written: whether it may be, and what is to stand in it."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

from torch import Tensor

from ..errors import OutputError
from .architectures import recognise
from .checkpoint import QUANTIZATION, Checkpoint, Source, TensorInfo, announced
from .journal import CONVERSION, files_of
from .recipe import Recipe
from .selection import Layer

MADE_BY = "promptmill"
"""Where a file's metadata says how it was made."""
ROOM = "make room on this disk"
ELSEWHERE = "choose a folder and a file that may be written"
HINTS = {
    errno.EACCES: ELSEWHERE,
    errno.EPERM: ELSEWHERE,
    errno.EROFS: ELSEWHERE,
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "choose another folder: a part of this path is a file",
    errno.EEXIST: "choose another folder: a part of this path is a file",
    **dict.fromkeys(
        (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP), "choose a folder on a disk that can lock files"
    ),
    errno.EISDIR: "choose another name: what would be written beside it is a folder",
}


def check_target(source: Source, target: Path, overwrite: bool) -> None:
    """
    Refuse to destroy anything.

    :raises OutputError: the target is no place for a quantized copy of the source.
    :raises OSError: there cannot be such a file.
    """
    if target.is_dir():
        raise OutputError(
            "the target is a folder", where=str(target), hint=str(target / "model.fp8.safetensors")
        )
    if target.suffix.lower() not in (".safetensors", ".sft"):
        raise OutputError(
            "ComfyUI knows these files by their ending", where=str(target), hint=f"{target}.safetensors"
        )
    part, lines = files_of(target)
    for path in (target, part, lines):
        if isinstance(source, Checkpoint) and path.exists() and path.samefile(source.path):
            what = (
                "the target is the source"
                if path == target
                else f"{path.name}, to be written first, is the source"
            )
            raise OutputError(what, where=str(target), hint="choose another name")
    if part.exists() and not lines.exists():
        raise OutputError(
            f"{part.name} would be overwritten, but no conversion left it",
            where=str(part),
            hint="move it away, or choose another name",
        )
    if target.exists() and not overwrite:
        raise OutputError("the file exists", where=str(target), hint="--overwrite, or choose another name")


def check_before(source: Source, target: Path, overwrite: bool, size: int) -> None:
    """
    What a conversion would find out after the long work that comes before it.

    :param size: of the target.
    :raises OutputError: it cannot be written.
    """
    try:
        check_target(source, target, overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            check_space(target.parent, size)
    except OSError as error:
        raise cannot_write(target, error, goes_on=False) from error


def cannot_write(target: Path, error: OSError, goes_on: bool) -> OutputError:
    """
    What the operating system refused, with what to do about it.

    :param goes_on: whether what was written stays.
    """
    hint = HINTS.get(error.errno or 0)
    if hint is None:
        hint = ROOM if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the disk"
        hint += "; the same command goes on" if goes_on else ""
    return OutputError(f"the file cannot be written: {error.strerror}", where=str(target), hint=hint)


def check_space(folder: Path, size: int) -> None:
    """:raises OutputError: its disk has no room for so many bytes more."""
    missing = size - shutil.disk_usage(folder).free
    if missing > 0:
        raise OutputError(
            f"the disk is too full: {missing / 1e9:.2f} GB more are needed", where=str(folder), hint=ROOM
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
    """
    The source's own, what ComfyUI reads of quantized layers, and how the file was made.

    Of a whole checkpoint the layers are named by tensors only: Load Diffusion Model takes the prefix off those, not off the metadata.
    """
    told = {}
    if not recognise(source.names)[1]:
        quantized = announced(source) | {layer.name: recipe.config(layer) for layer in layers}
        told = {QUANTIZATION: json.dumps({"format_version": "1.0", "layers": quantized})}
    made = {
        "format": recipe.format.name,
        "source": source.path.name if isinstance(source, Checkpoint) else "a model in memory",
        "keep": recipe.keep,
        "conversion": CONVERSION,
        "comfy-kitchen": version("comfy-kitchen"),
    }
    return {**source.metadata, **told, MADE_BY: json.dumps(made)}
