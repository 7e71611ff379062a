"""A file in the making, and the journal beside it that tells which tensors are in it, so that a conversion can go on."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
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

    A part of another source or recipe, or one that was cut short, is begun anew. A line is written only after what it tells of is on
    the disk.
    """

    def __init__(self, target: Path, fingerprint: str | None) -> None:
        """
        :param fingerprint: None: nobody could go on, so an interruption leaves nothing.
        :raises OutputError: another process is writing the same file.
        :raises OSError: the files cannot be opened.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        self.part, self.path = files_of(target)
        self._target = target
        self._fingerprint = fingerprint
        self._lines = self.path.open("a+b", buffering=0)
        try:
            free = locked(self._lines)
        except OSError:
            if self.path.stat().st_size:  # another conversion's
                self._lines.close()
            else:
                _remove(self._lines, self.path)
            raise
        if not free or not os.fstat(self._lines.fileno()).st_nlink:
            self._lines.close()
            raise OutputError(
                "another process is writing this file", where=str(target), hint="wait until it is done"
            )
        self._file = self.part.open("r+b" if self.part.exists() else "w+b", buffering=0)
        self._pending: list[dict[str, Any]] = []
        self._unsynced = 0
        self._end = 0
        self.done = self._read()
        """What is in the part: keys, and what was noted with each."""

    @property
    def room_taken(self) -> int:
        """Bytes that the part takes on the disk; what is not written yet may be holes."""
        found = os.fstat(self._file.fileno())
        return found.st_size if sys.platform == "win32" else min(found.st_size, found.st_blocks * 512)

    def write(self, start: int, data: Any) -> None:
        """Put bytes at a place of the part."""
        self._file.seek(start)
        view = memoryview(data)
        self._end = max(self._end, start + len(view))
        while len(view):
            written = self._file.write(view)
            self._unsynced += written
            view = view[written:]

    def note(self, key: str, value: float | None = None) -> None:
        """Note, before long, that something is done."""
        self._pending.append({"done": key, "value": value, "end": self._end})
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
        self._file.close()
        put_in_place(self.part, self._target)
        _remove(self._lines, self.path)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave both files as they are, unless the source is what is wrong, or nobody could go on."""
        self._file.close()
        if isinstance(error, CheckpointError) or (kind and self._fingerprint is None):
            self.part.unlink(missing_ok=True)
            _remove(self._lines, self.path)
        self._lines.close()

    def _read(self) -> Mapping[str, float | None]:
        self._lines.seek(0)
        lines = [line for line in self._lines.read().splitlines(keepends=True) if line.endswith(b"\n")]
        begin = {"fingerprint": self._fingerprint}
        try:
            first, *entries = map(json.loads, lines)
            done = {entry["done"]: entry["value"] for entry in entries}
            end = max((entry["end"] for entry in entries), default=0)
            whole = first == begin and os.fstat(self._file.fileno()).st_size >= end
        except (ValueError, TypeError, KeyError):
            whole = False
        if whole and self._fingerprint:
            self._lines.truncate(sum(map(len, lines)))
            return done
        self._lines.truncate(0)
        self._file.truncate(0)
        self._lines.write(_line(begin))
        return {}


def files_of(target: Path) -> tuple[Path, Path]:
    """The part of a target, and its journal."""
    return target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.jsonl")


def _remove(lines: BinaryIO, path: Path) -> None:
    """Remove a journal, then give up its lock; Windows, which removes no open file, the other way round."""
    if sys.platform == "win32":
        lines.close()
        with suppress(PermissionError):  # another process has opened it since
            path.unlink()
    else:
        path.unlink()
        lines.close()


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


if sys.platform == "win32":
    import msvcrt

    def locked(file: BinaryIO) -> bool:
        """Lock a file for this process, until it is closed; False where another process has it."""
        file.seek(1 << 30)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def locked(file: BinaryIO) -> bool:
        """
        Lock a file for this process, until it is closed; False where another process has it.

        :raises OSError: this file system has no locks.
        """
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
