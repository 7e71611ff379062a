"""The output folder: one run's home, for one process at a time."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import OutputError
from .images import remove_parts

STATE = ".promptmill"
LEDGER_FILE = "ledger.sqlite"


@dataclass(frozen=True)
class OutputFolder:
    """An output folder that holds, or is about to hold, a run."""

    path: Path
    run_id: str
    ledger_url: str


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
    if path.is_dir() and any(path.iterdir()) and not (path / STATE).is_dir() and not force:
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
        yield _identify(path, database)
    finally:
        lock.release()


def existing_output(path: Path, *, database: str | None = None) -> OutputFolder:
    """The run in a folder, to look at it only.

    :raises OutputError: there is no run in it.
    """
    if not (path / STATE / "run.json").is_file():
        raise OutputError(
            "there is no run in this folder", value=str(path), hint="promptmill run TABLE -w WORKFLOW"
        )
    return _identify(path, database)


def _identify(path: Path, database: str | None) -> OutputFolder:
    record = path / STATE / "run.json"
    if not record.is_file():
        part = record.with_suffix(".part")
        identity = {"run": str(uuid.uuid4()), "ledger": "elsewhere" if database else LEDGER_FILE}
        part.write_text(json.dumps(identity), encoding="utf-8")
        part.replace(record)
    known = json.loads(record.read_text(encoding="utf-8"))
    elsewhere = known["ledger"] == "elsewhere"
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
    url = database or f"sqlite:///{(path / LEDGER_FILE).absolute().as_posix()}"
    return OutputFolder(path, known["run"], url)
