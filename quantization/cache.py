"""Converted checkpoints, made once: which file is made of which, how old, how large, and what has to go."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, OutputError
from ..files import put_in_place, stage
from .journal import CONVERSION, files_of, locked

LIMIT = 50.0
"""GB, unless the environment variable PROMPTMILL_CACHE_SIZE says otherwise."""
HASHES, LOCK = "hashes.json", "lock"
FILES = "*.*.????????.safetensors"
LONGEST = 255
"""Bytes of a file's name, the longest that is written included."""
BLOCK = 1 << 22
WAIT = 0.5


@dataclass(frozen=True)
class Entry:
    """A converted file, as the record beside it tells."""

    name: str
    """Of the file: ``<source's stem>.<format>.<8 hex of the key>.safetensors``."""
    key: str
    source: str
    """The source's path when it was converted."""
    format: str
    size: int
    """Bytes."""
    report: dict[str, Any]
    """Of the conversion."""


@dataclass(frozen=True)
class Leftover:
    """What a conversion has written that runs, or was stopped: then the same choice finishes it."""

    name: str
    size: int
    """Bytes."""


class Cache:
    """
    A folder of converted checkpoints.

    Beside each file lies its record, ``<name>.json``, whose time is when the file was used last. A lock, which the operating system
    frees when its process ends, lets one process convert at a time.
    """

    def __init__(self, folder: Path, limit: float | None = None) -> None:
        """
        :param limit: GB that the files may take together; the file asked for last may be larger alone.
        :raises CheckpointError: PROMPTMILL_CACHE_SIZE is no number.
        """
        self.folder = folder
        self.limit = _limit() if limit is None else limit

    def get(
        self,
        source: Path,
        recipe: dict[str, Any],
        make: Callable[[Path], dict[str, Any]],
        *,
        size: int = 0,
        in_use: Collection[Path] = (),
        tick: Callable[[str, float], None] = lambda what, share: None,
    ) -> tuple[Path, Entry]:
        """
        The converted file, made when it is not there or not as it was made.

        :param recipe: what the result depends on beside source and versions, with ``format``.
        :param make: writes the file, as a whole or not at all, and returns its report.
        :param size: of the file to be made, in bytes: for so many, old files go first.
        :param in_use: files that stay even where the limit is passed.
        :param tick: told of hashing (the share that is done) and of waiting for another process; what it raises ends both.
        :raises OutputError: the folder cannot be used.
        """
        versions = [CONVERSION, importlib.metadata.version("comfy-kitchen")]
        with self._usable():
            content = self.digest(source, lambda share: tick("reading", share))
            key = hashlib.sha256(json.dumps([content, recipe, versions], sort_keys=True).encode()).hexdigest()
            entry = self._find(key)
            if entry is None:
                with self._alone(lambda: tick("waiting for another process", 0)):
                    entry = self._find(key) or self._make(source, recipe["format"], key, make, size, in_use)
            path = self.folder / entry.name
            os.utime(_record_of(path))
            self.shrink(self.limit, {path, *in_use})
        return path, entry

    def files(self) -> list[Entry | Leftover]:
        """All that counts: the files that are whole, then what conversions left."""
        return [*self.entries(), *self.leftovers()]

    def entries(self) -> list[Entry]:
        """The files that are whole, the one that was used last first."""
        paths = [path.with_suffix("") for path in self.folder.glob("*.safetensors.json")]
        found = (entry for path in paths if (entry := self._whole(path)))
        return sorted(found, key=lambda entry: self.last_used(entry.name), reverse=True)

    def leftovers(self) -> list[Leftover]:
        """Files in the making, and files without a sound record, as they are when a process is killed between the two."""
        found = []
        for path in (*self.folder.glob(f"{FILES}.part"), *self.folder.glob(FILES)):
            with suppress(FileNotFoundError):  # it is done since
                if not self._whole(path):
                    found.append(Leftover(path.name, path.stat().st_size))
        return found

    def last_used(self, name: str) -> float:
        """Seconds since the epoch; 0 where it is gone."""
        path = self.folder / name
        for told_by in (_record_of(path), path):
            with suppress(FileNotFoundError):
                return told_by.stat().st_mtime
        return 0.0

    def remove(self, name: str) -> Entry | Leftover:
        """
        Remove a converted file, or what a stopped conversion left. Returns what it was.

        :raises CheckpointError: there is no such file in this cache, or another program holds it open.
        """
        with self._usable(), self._lock() as ours:
            found = next((found for found in self.files() if found.name == name), None)
            if found is None:
                raise CheckpointError(
                    "there is no such file in the cache", value=name, hint="promptmill cache lists them"
                )
            self._remove(found, ours)
        return found

    def shrink(self, limit: float, keep: Collection[Path] = ()) -> list[Entry | Leftover]:
        """
        Remove what was used the longest ago, stopped conversions too, until the rest takes at most ``limit`` GB.

        :param limit: -1 removes even what takes no bytes.
        :return: what was removed.
        """
        with self._usable(), self._lock() as ours:
            return self._shrink(limit * 1e9, keep, ours)

    def digest(self, source: Path, tick: Callable[[float], None] = lambda share: None) -> str:
        """
        The SHA-256 of a file, remembered for its path, size, time and inode.

        :param tick: told the share that is read.
        """
        state = source.stat()
        known = [state.st_size, state.st_mtime_ns, state.st_ino]
        remembered = _read(self.folder / HASHES).get(str(source))
        if isinstance(remembered, list) and remembered[1:] == known:
            return str(remembered[0])
        digest, read = hashlib.sha256(), 0
        with source.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
                read += len(block)
                tick(read / state.st_size)
        hashes = _read(self.folder / HASHES) | {str(source): [digest.hexdigest(), *known]}
        _write(self.folder / HASHES, hashes)
        return digest.hexdigest()

    def _find(self, key: str) -> Entry | None:
        from .checkpoint import Checkpoint  # imports torch, which listing files needs not

        for entry in self.entries():
            if entry.key == key:
                with suppress(CheckpointError):
                    Checkpoint(self.folder / entry.name)
                    return entry
        return None

    def _make(
        self,
        source: Path,
        format: str,
        key: str,
        make: Callable[[Path], dict[str, Any]],
        size: int,
        in_use: Collection[Path],
    ) -> Entry:
        end = f".{format}.{key[:8]}.safetensors"
        longest = LONGEST - len(files_of(Path(end))[1].name)
        path = self.folder / (source.stem.encode()[:longest].decode(errors="ignore") + end)
        path.unlink(missing_ok=True)
        part, _ = files_of(path)
        taken = {found.name: found.size for found in self.files()}
        more = size - taken.get(part.name, 0)
        missing = more - shutil.disk_usage(self.folder).free
        self._shrink(min(self.limit * 1e9 - more, sum(taken.values()) - missing), {part, *in_use}, ours=True)
        report = make(path)
        entry = Entry(path.name, key, str(source), format, path.stat().st_size, report)
        _write(_record_of(path), asdict(entry))
        return entry

    def _shrink(self, limit: float, keep: Collection[Path], ours: bool) -> list[Entry | Leftover]:
        """:param limit: bytes."""
        found = sorted(self.files(), key=lambda found: self.last_used(found.name))
        size = sum(each.size for each in found)
        removed: list[Entry | Leftover] = []
        for each in found:
            if size <= limit:
                break
            if self.folder / each.name in keep:
                continue
            try:
                self._remove(each, ours)
            except CheckpointError:
                continue
            removed.append(each)
            size -= each.size
        return removed

    def _remove(self, found: Entry | Leftover, ours: bool) -> None:
        """:param ours: this process alone may convert."""
        path = self.folder / found.name
        if isinstance(found, Leftover) and not ours:
            raise CheckpointError(
                "a conversion may be writing this file", where=str(path), hint="wait until it is done"
            )
        made = [path, _record_of(path)]
        if isinstance(found, Leftover):
            made += files_of(path.with_suffix("") if path.suffix == ".part" else path)
        try:
            for each in made:
                each.unlink(missing_ok=True)
        except PermissionError as error:
            raise CheckpointError(
                "the file cannot be removed",
                where=str(path),
                hint="stop the ComfyUI that has it loaded; the folder has to be writable",
            ) from error

    def _whole(self, path: Path) -> Entry | None:
        try:
            entry = Entry(**_read(_record_of(path)))
            return entry if (entry.name, entry.size) == (path.name, path.stat().st_size) else None
        except (OSError, TypeError):
            return None

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"the cache of converted checkpoints cannot be used: {error.strerror}",
                where=str(error.filename or self.folder),
                hint="PROMPTMILL_CACHE=/a/folder/that/may/be/written, set for ComfyUI",
            ) from error

    @contextmanager
    def _alone(self, wait: Callable[[], None]) -> Iterator[None]:
        """One process converts at a time; ``wait`` is called while another one does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            with self._lock() as ours:
                if ours:
                    yield
                    return
            wait()
            time.sleep(WAIT)

    @contextmanager
    def _lock(self) -> Iterator[bool]:
        """Whether no other process converts; then none does until this is left."""
        with (self.folder / LOCK).open("ab") as file:
            yield locked(file)


def _record_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _limit() -> float:
    text = os.environ.get("PROMPTMILL_CACHE_SIZE") or str(LIMIT)
    with suppress(ValueError):
        if (size := float(text)) >= 0:
            return size
    raise CheckpointError(
        "the size of the cache is a number of GB",
        where="PROMPTMILL_CACHE_SIZE",
        value=text,
        hint=f"PROMPTMILL_CACHE_SIZE={LIMIT:.0f}",
    )


def _read(path: Path) -> dict[str, Any]:
    """What a file says; nothing where it is not there or not of this form."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    put_in_place(stage(path, json.dumps(content, ensure_ascii=False).encode()), path)
