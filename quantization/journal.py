"""A file in the making, and the journal beside it that tells which tensors are in it, so that a conversion can go on."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ..errors import CheckpointError, OutputError
from ..files import put_in_place

CONVERSION = 1
"""Counted up when the same source and recipe give other bytes."""
EVERY = 1 << 28
"""Bytes after which what was written is forced to the disk, and then noted."""


class Journal:
    """
    ``<target>.part`` with ``<target>.part.jsonl``: first the fingerprint of source and recipe, then a line for each thing done.

    A part of another source or recipe is begun anew. A line is written only after what it tells of is on the disk.
    """

    def __init__(self, target: Path, fingerprint: str) -> None:
        """
        :raises OutputError: another process is writing the same file.
        :raises OSError: the files cannot be opened.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        self.part = target.with_name(f"{target.name}.part")
        self.path = target.with_name(f"{target.name}.part.jsonl")
        self._target = target
        self._lines = self.path.open("a+b", buffering=0)
        if not locked(self._lines):
            self._lines.close()
            raise OutputError(
                "another process is writing this file", where=str(target), hint="wait until it is done"
            )
        begun = self.part.exists()
        self._file = self.part.open("r+b" if begun else "w+b", buffering=0)
        self._pending: list[dict[str, Any]] = []
        self._unsynced = 0
        self.done = self._read(fingerprint, begun)
        """What is in the part: keys, and what was noted with each."""

    def write(self, start: int, data: Any) -> None:
        """Put bytes at a place of the part."""
        self._file.seek(start)
        view = memoryview(data)
        while len(view):
            written = self._file.write(view)
            self._unsynced += written
            view = view[written:]

    def note(self, key: str, value: float | None = None) -> None:
        """Note, before long, that something is done."""
        self._pending.append({"done": key, "value": value})
        if self._unsynced >= EVERY:
            self.flush()

    def flush(self) -> None:
        """Force what was written to the disk, then write what was noted."""
        os.fsync(self._file.fileno())
        self._lines.write(b"".join(_line(entry) for entry in self._pending))
        self._pending.clear()
        self._unsynced = 0

    def finish(self) -> None:
        """Put the part in its place."""
        self.flush()
        self._close()
        self.path.unlink()
        put_in_place(self.part, self._target)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave both files as they are, unless the source is what is wrong."""
        self._close()
        if isinstance(error, CheckpointError):
            self.part.unlink()
            self.path.unlink()

    def _close(self) -> None:
        self._file.close()
        self._lines.close()

    def _read(self, fingerprint: str, begun: bool) -> Mapping[str, float | None]:
        self._lines.seek(0)
        lines = self._lines.read().splitlines(keepends=True)
        whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
        if not begun or not whole or whole[0] != {"fingerprint": fingerprint}:
            self._lines.truncate(0)
            self._file.truncate(0)
            self._lines.write(_line({"fingerprint": fingerprint}))
            return {}
        self._lines.truncate(sum(map(len, lines[: len(whole)])))
        return {entry["done"]: entry["value"] for entry in whole[1:]}


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


if sys.platform == "win32":
    import msvcrt

    def locked(file: BinaryIO) -> bool:
        """Lock a file for this process, until it is closed; False where another process has it."""
        file.seek(1 << 30)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def locked(file: BinaryIO) -> bool:
        """Lock a file for this process, until it is closed; False where another process has it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
