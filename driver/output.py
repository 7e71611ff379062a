"""The output folder: one run's home, for one process at a time."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OutputError
from ..files import remove_parts, set_aside
from ..table import OWN_FILES, read_entries

if TYPE_CHECKING:
    from sqlalchemy import URL

STATE = ".promptmill"
LEDGER_FILE = "ledger.sqlite"


@dataclass(frozen=True)
class OutputFolder:
    """An output folder that holds, or is about to hold, a run."""

    path: Path
    run_id: str
    ledger_url: URL | str
    planned: bool
    """Whether its ledger was told of the run: then the run must be in it."""

    def mark_planned(self) -> None:
        """Remember that the ledger knows the run."""
        record = _record(self.path)
        _write_record(record, {**json.loads(record.read_text(encoding="utf-8")), "planned": True})


@contextmanager
def open_output(path: Path, *, database: str | None = None, force: bool = False) -> Iterator[OutputFolder]:
    """Take the folder for this process, making it when it is not there.

    The lock is the operating system's: it is free again when its process has died, however it died.

    :param database: the ledger's URL; None: ``ledger.sqlite`` in the folder.
    :param force: use a folder that holds other files; none of them is overwritten.
    :raises OutputError: not a folder, another run's, other people's files, or in use.
    """
    from filelock import FileLock, Timeout

    if path.exists() and not path.is_dir():
        raise OutputError("the output is not a folder", value=str(path), hint="--out DIR")
    foreign = path.is_dir() and any(path.iterdir()) and not (path / STATE).is_dir()
    foreign = foreign and next(read_entries(path), None) is None
    if foreign and not force:
        raise OutputError(
            "the output folder holds files of something else",
            value=str(path),
            hint="--out with another folder, or --force to add to this one (nothing is overwritten)",
        )
    try:
        (path / STATE).mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / STATE / "lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputError(
            "another promptmill is working in this folder",
            value=str(path),
            hint=f"promptmill status {path}",
        ) from error
    except OSError as error:
        raise OutputError(
            f"the output folder cannot be written: {error.strerror}", value=str(path), hint="--out DIR"
        ) from error
    try:
        remove_parts(path)
        for name in OWN_FILES if foreign else ():
            if (path / name).exists():
                set_aside(path, name)
        yield _identify(path, database)
    finally:
        lock.release()


def existing_output(path: Path, *, database: str | None = None) -> OutputFolder:
    """The run in a folder, to look at it only.

    :raises OutputError: there is no run in it.
    """
    if not _record(path).is_file():
        raise OutputError(
            "there is no run in this folder", value=str(path), hint="promptmill run TABLE -w WORKFLOW"
        )
    return _identify(path, database)


def _identify(path: Path, database: str | None) -> OutputFolder:
    from sqlalchemy import URL

    record = _record(path)
    if not record.is_file():
        _write_record(record, {"run": str(uuid.uuid4()), "ledger": "elsewhere" if database else LEDGER_FILE})
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        run_id, elsewhere = str(known["run"]), known["ledger"] == "elsewhere"
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(
            "the record of the run in this folder is damaged",
            value=str(record),
            hint="--out with another folder",
        ) from error
    if elsewhere and not database:
        raise OutputError(
            "this run's ledger is in a database of its own", value=str(path), hint="--database URL, as before"
        )
    if database and not elsewhere:
        raise OutputError(
            f"this run's ledger is {LEDGER_FILE} in its folder",
            value=str(path),
            hint="leave --database out (and unset PROMPTMILL_DATABASE)",
        )
    url = database or URL.create("sqlite", database=str((path / LEDGER_FILE).absolute()))
    return OutputFolder(path, run_id, url, bool(known.get("planned")))


def _record(path: Path) -> Path:
    return path / STATE / "run.json"


def _write_record(record: Path, content: dict[str, object]) -> None:
    part = record.with_name(".promptmill-run.part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(record)
