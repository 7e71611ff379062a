"""Writes csv that our reader reads back equal, or csv that a spreadsheet opens without running anything."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def export_csv(
    path: Path | str,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, str]],
    *,
    for_spreadsheet: bool = False,
) -> None:
    """
    Write the rows' columns (a missing one is blank) into a temporary sibling, then put it in place: the file is
    never half. UTF-8 with a byte order mark, which Excel needs.

    :param for_spreadsheet: put a ``'`` before cells that a spreadsheet would run as a formula. This cannot be told
        from a ``'`` of the text, so such a file is for looking at; without it ``open_table`` reads equal rows.
    :raises OSError: the folder cannot be written.
    """
    path = Path(path)
    sibling = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    escape = _harmless if for_spreadsheet else str
    try:
        # a message from elsewhere may hold a lone surrogate, which must not cost the whole export
        with sibling.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
            writer = csv.writer(file, strict=True)
            writer.writerow(map(escape, columns))
            writer.writerows([escape(row.get(column, "")) for column in columns] for row in rows)
        sibling.replace(path)
    except BaseException:
        sibling.unlink(missing_ok=True)
        raise


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
