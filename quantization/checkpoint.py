"""Where weights come from: a .safetensors file, checked before anything is read from it."""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ..errors import CheckpointError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
"""As safetensors names them."""
OTHER_FILES = {
    b"PK\x03\x04": "a zip archive, as torch.save writes it",
    b"\x80": "a Python pickle, as torch.save writes it",
    b"GGUF": "a GGUF file",
    b"version https://git-lfs": "a Git LFS pointer: the download has not brought the weights",
    b"<": "a web page: the download has not brought the weights",
}
LARGEST_HEADER = 100_000_000
DAMAGED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""What comes of reading JSON, and of taking it for what it should be."""
METADATA, QUANTIZATION = "__metadata__", "_quantization_metadata"
MARK, OLD_MARK, OLD_SCALE = ".comfy_quant", "scaled_fp8", ".scale_weight"


@dataclass(frozen=True)
class TensorInfo:
    """What is known of a tensor before it is read."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return math.prod(self.shape) * self.dtype.itemsize


class Source(Protocol):
    """Where tensors come from: a file, or a model in memory."""

    @property
    def names(self) -> Mapping[str, TensorInfo]:
        """The tensors, in the order in which they are best read."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says beside its tensors."""

    def read(self, name: str) -> torch.Tensor:
        """A tensor, on any device."""


class Checkpoint:
    """A .safetensors file. It is opened for each reading, so that threads need not share a position."""

    def __init__(self, path: Path) -> None:
        """:raises CheckpointError: this is no whole .safetensors file."""
        self.path = path
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                what = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
                raise self._bad(
                    f"this is {what}, not a .safetensors file",
                    "take the single file of the model for ComfyUI",
                )
            self.size = found.st_size
            with path.open("rb") as file:
                start = file.read(8)
                length = int.from_bytes(start, "little")
                header = file.read(length) if length <= min(LARGEST_HEADER, self.size - 8) else b""
        except OSError as error:
            raise self._bad(f"the file cannot be read: {error.strerror}", "check its path") from error
        if not header:
            raise self._not_safetensors(start)
        self._begin = 8 + length
        self.digest = hashlib.sha256(header).hexdigest()
        """Of the header: names, shapes and places of all tensors."""
        self.metadata: dict[str, str] = {}
        self.names: dict[str, TensorInfo] = {}
        self._offsets: dict[str, int] = {}
        try:
            self._take(json.loads(header))
        except DAMAGED as error:
            raise self._bad(f"its header is damaged: {error}", "download it again") from error

    def read(self, name: str) -> torch.Tensor:
        """A tensor, read into memory of its own."""
        info = self.names[name]
        return self.read_bytes(name, 0, info.nbytes).view(info.dtype).reshape(info.shape)

    def read_bytes(self, name: str, start: int, stop: int) -> torch.Tensor:
        """
        Some of a tensor's bytes.

        :raises CheckpointError: the file cannot be read, or has become shorter.
        """
        piece = torch.empty(stop - start, dtype=torch.uint8)
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self._begin + self._offsets[name] + start)
                read, view = 0, memoryview(buffer_of(piece))
                while read < len(view):
                    got = file.readinto(view[read:])
                    if not got:
                        raise self._bad(f"the file ended within {name}", "it was changed while it was read")
                    read += got
        except OSError as error:
            raise self._bad(f"{name} cannot be read: {error.strerror}", "check the disk") from error
        return piece

    def _take(self, header: dict[str, Any]) -> None:
        self.metadata = dict(header.pop(METADATA, None) or {})
        end = 0
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            start, stop = entry["data_offsets"]
            if entry["dtype"] not in DTYPES:
                raise self._bad(
                    f"{name} has a dtype that is unknown here", "update PyTorch", value=entry["dtype"]
                )
            info = TensorInfo(DTYPES[entry["dtype"]], tuple(map(int, entry["shape"])))
            if stop - start != info.nbytes or min(info.shape, default=0) < 0:
                raise ValueError(f"{name} has {stop - start} bytes, but its shape takes {info.nbytes}")
            if start != end:
                raise ValueError(f"{name} begins at {start}, but the tensor before it ends at {end}")
            end = stop
            self.names[name], self._offsets[name] = info, start
        if self._begin + end > self.size:
            raise self._bad(
                f"the file is truncated: {self._begin + end:,} bytes are announced",
                "download it again",
                value=self.size,
            )
        if self._begin + end < self.size:
            raise ValueError(f"{self.size - self._begin - end:,} bytes follow the last tensor")

    def _not_safetensors(self, start: bytes) -> CheckpointError:
        with self.path.open("rb") as file:
            beginning = file.read(32)
        for magic, what in OTHER_FILES.items():
            if beginning.startswith(magic):
                return self._bad(
                    f"this is no .safetensors file but {what}", "take the .safetensors file of this model"
                )
        return self._bad(
            "this is no whole .safetensors file: its first 8 bytes should be the length of its header",
            "download it again",
            value=start,
        )

    def _bad(self, message: str, hint: str, value: Any = None) -> CheckpointError:
        return CheckpointError(message, where=str(self.path), value=value, hint=hint)


def buffer_of(tensor: torch.Tensor) -> Any:
    """The bytes of a contiguous tensor on the CPU, in place; the tensor has to be kept while they are used."""
    return (ctypes.c_ubyte * tensor.nbytes).from_address(tensor.data_ptr())


def name_of(source: Source) -> str:
    """As errors name it."""
    return str(source.path) if isinstance(source, Checkpoint) else "the model"


def quantization_of(source: Source) -> dict[str, str]:
    """
    The format of each layer that is quantized already, as ComfyUI names formats; text encoders' layers as well.

    :raises CheckpointError: what the file says of them is damaged.
    """
    found = {layer: str(config.get("format")) for layer, config in announced(source).items()}
    old = any(name.endswith(OLD_MARK) for name in source.names)
    for name in source.names:
        if name.endswith(MARK):
            with _sound(source, name):
                config = json.loads(bytes(source.read(name).tolist()))
                found[name.removesuffix(MARK)] = str(config.get("format"))
        elif old and name.endswith(OLD_SCALE):
            found[name.removesuffix(OLD_SCALE)] = "float8_e4m3fn"
    return found


def announced(source: Source) -> dict[str, dict[str, Any]]:
    """
    The quantized layers that a file's metadata names.

    :raises CheckpointError: it is damaged.
    """
    with _sound(source, QUANTIZATION):
        layers = json.loads(source.metadata.get(QUANTIZATION, "{}")).get("layers", {})
        return {layer: dict(config) for layer, config in layers.items()}


@contextmanager
def _sound(source: Source, what: str) -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        raise CheckpointError(
            f"{what}, which should say how layers are quantized, is damaged: {error}",
            where=name_of(source),
            hint="download it again, or take another file: ComfyUI does not load this one either",
        ) from error
