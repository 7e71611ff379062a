"""The list of a run's images, a line each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a run, or one job that has none (then ``file``, ``sha256`` and ``thumbnail`` are "").

    ``row`` and ``variant`` count from 1; ``index`` is the image's place within its job. ``width`` and
    ``height`` are pixels, ``seconds`` is the server's time for the attempt that made the image. ``file`` and
    ``thumbnail`` are relative to the output folder, with ``/`` on every system. ``status`` is a job state:
    pending, submitted, done, failed, quarantined or cancelled.
    """

    id: str
    row: int
    variant: int
    index: int
    file: str
    sha256: str
    prompt: str
    negative: str
    seed: int | None
    width: int | None
    height: int | None
    server: str
    seconds: float | None
    attempts: int
    status: str
    error: str
    thumbnail: str

    def line(self) -> str:
        """The entry as a line of ``manifest.jsonl``: exact values, null for what is not known."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"


def append_entry(out: Path, entry: Entry) -> None:
    """
    Add a line to the manifest in ``out``. A line that a crash cut short stays alone on its line.

    :raises OSError: the file cannot be written.
    """
    with (out / MANIFEST).open("a+b") as file:
        if file.tell():
            file.seek(-1, 2)
            torn = file.read(1) != b"\n"
        else:
            torn = False
        # A lone surrogate, in an error text, becomes \udxxx: JSON's own escape for it.
        file.write((b"\n" if torn else b"") + entry.line().encode(errors="backslashreplace"))


def read_entries(out: Path) -> Iterator[Entry]:
    """The entries in the order they were written; a file may have several, of which the last holds. No manifest: none."""
    names = {field.name for field in fields(Entry)}
    try:
        file = (out / MANIFEST).open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            try:
                values = json.loads(line)
            except ValueError:
                continue
            if isinstance(values, dict) and names <= values.keys():
                yield Entry(**{name: values[name] for name in names})
