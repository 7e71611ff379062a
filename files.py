"""Files that are in their place only as a whole."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

PART_PREFIX = ".promptmill-"
PART = ".part"
SUPERSEDED = "superseded"


def stage(final: Path, data: bytes) -> Path:
    """Write the bytes to a temporary sibling of ``final`` and force them to the disk.

    :raises OSError: the folder cannot be written, or the disk is full; then nothing is left.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.parent / f"{PART_PREFIX}{uuid.uuid4().hex}{PART}"
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return part


def put_in_place(part: Path, final: Path) -> None:
    """Rename a staged file to its final name, durably."""
    part.replace(final)
    if os.name == "posix":
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def set_aside(out: Path, name: str) -> str:
    """Move what stands at ``out / name`` to ``superseded/``, numbered where that is taken. Returns its new name."""
    first = path = out / SUPERSEDED / name
    number = 2
    while path.exists():
        end = f"_{number}{first.suffix}"
        stem = first.stem.encode()[: 255 - len(end)].decode(errors="ignore")
        path = first.with_name(stem + end)
        number += 1
    path.parent.mkdir(parents=True, exist_ok=True)
    if (out / name).exists():
        (out / name).replace(path)
    return path.relative_to(out).as_posix()


def remove_parts(out: Path) -> None:
    """Remove what an earlier process staged below ``out`` and never put in place."""
    for part in out.rglob(f"{PART_PREFIX}*{PART}"):
        part.unlink(missing_ok=True)
