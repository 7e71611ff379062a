"""A .safetensors file as it will be: its header, and where each tensor goes, before any of them is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from .checkpoint import DTYPES, METADATA, TensorInfo

NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Layout:
    """The bytes before the tensors, where in the file each begins, and how large the file is."""

    header: bytes
    places: Mapping[str, int]
    size: int


def lay_out(tensors: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> Layout:
    """
    Tensors in their order, but those of larger elements first, so that each begins where its elements are aligned.

    :param tensors: those of odd lengths last.
    """
    offsets, end = {}, 0
    for name in sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize):
        offsets[name] = end
        end += tensors[name].nbytes
    entries = {
        name: {
            "dtype": NAMES[tensors[name].dtype],
            "shape": tensors[name].shape,
            "data_offsets": (start, start + tensors[name].nbytes),
        }
        for name, start in offsets.items()
    }
    header = json.dumps({METADATA: metadata, **entries}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    begin = 8 + len(header)
    places = {name: begin + start for name, start in offsets.items()}
    return Layout(len(header).to_bytes(8, "little") + header, places, begin + end)
