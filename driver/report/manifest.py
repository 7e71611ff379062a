"""The list of a run's images, for spreadsheets and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path

from ...table import Entry
from ...table.export import export_csv
from .replacing import replacing


def write_manifest(out: Path, entries: Iterable[Entry]) -> None:
    """Write ``manifest.csv`` and ``manifest.jsonl`` into ``out`` in one pass, in constant memory.

    ``manifest.jsonl`` has one JSON object a line with exact values, null for what is not known.
    ``manifest.csv`` is for Excel: UTF-8 with BOM, and text that would start a formula gets an apostrophe in
    front. Seeds are plain digits in both, so that both can be read back as tables; Excel shows and saves more
    than 15 digits rounded, so take long seeds from ``manifest.jsonl``.

    :raises OutputError: a manifest is open in another program. An error leaves the old files as they were.
    """
    with (
        replacing(out / "manifest.csv") as csv_part,
        replacing(out / "manifest.jsonl") as jsonl_part,
        # A lone surrogate, in an error text, becomes \udxxx: JSON's own escape for it.
        jsonl_part.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as jsonl,
    ):

        def rows() -> Iterator[dict[str, str]]:
            for entry in entries:
                values = asdict(entry)
                jsonl.write(entry.line())
                yield {name: "" if value is None else str(value) for name, value in values.items()}

        export_csv(csv_part, [field.name for field in fields(Entry)], rows(), for_spreadsheet=True)
