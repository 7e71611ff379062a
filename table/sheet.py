"""xlsx: the first sheet of a workbook."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ..errors import TableError
from .cells import cell_text
from .source import Record


class Sheet:
    """
    Cells as the user sees them. Formulas count by the value that the spreadsheet program stored, so the workbook is
    read twice side by side: values, and formulas.
    """

    unit = "row"

    def __init__(self, path: Path) -> None:
        """:raises TableError: not a workbook, or the first sheet is empty."""
        self._path = path
        workbook = _open(path, data_only=True)
        names = [sheet.title for sheet in workbook.worksheets]
        workbook.close()
        if not names:
            raise TableError(
                "the workbook has no sheet with cells", where=path.name, hint="put the table on a sheet"
            )
        others = f"; {len(names) - 1} more not read" if len(names) > 1 else ""
        self.notes = [f"sheet {names[0]!r}{others}"] if others else []
        for place, record in self._all():
            if isinstance(record, TableError):
                raise record
            if any(map(str.strip, record)):
                self.header_place, self.header = place, record
                return
        raise TableError("the table is empty", where=path.name, hint="put column names into the first row")

    def records(self) -> Iterator[Record]:
        """Every row below the header, at least as wide as the header."""
        width = len(self.header)
        for place, record in self._all():
            if place <= self.header_place:
                continue
            if isinstance(record, list):
                while len(record) > width and not record[-1]:
                    record.pop()
                record.extend([""] * (width - len(record)))
            yield place, record

    def _all(self) -> Iterator[Record]:
        values, formulas = _open(self._path, data_only=True), _open(self._path, data_only=False)
        try:
            pairs = zip_longest(_rows(values, self._path), _rows(formulas, self._path), fillvalue=())
            for place, (cells, sources) in enumerate(pairs, 1):
                yield place, self._record(place, cells, sources)
        finally:
            values.close()
            formulas.close()

    def _record(self, place: int, cells: Any, sources: Any) -> list[str] | TableError:
        record = []
        for column, (cell, source) in enumerate(zip_longest(cells, sources), 1):
            where = f"{self._path.name} row {place}, column {column}"
            if cell.data_type == "e":
                return TableError("the cell holds an error of the spreadsheet", where=where, value=cell.value)
            if cell.value is None and source.data_type == "f":
                return TableError(
                    "the formula's result is not in the file",
                    where=where,
                    value=str(source.value),
                    hint="open the table in a spreadsheet program and save it again, or replace the formula by its value",
                )
            try:
                text = cell_text(cell.value, exact_integers=False)
            except TableError as error:
                error.where = where
                return error
            # a format of zeros only, as made for article numbers, shows leading zeros
            if isinstance(cell.value, int) and set(cell.number_format) == {"0"}:
                text = text.zfill(len(cell.number_format))
            record.append(text)
        return record


def _open(path: Path, *, data_only: bool) -> Any:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise TableError(
            "an xlsx table needs openpyxl", where=path.name, hint="pip install openpyxl"
        ) from None
    try:
        return load_workbook(path, read_only=True, data_only=data_only, keep_links=False)
    except Exception as error:  # a damaged file fails in openpyxl, zipfile or the XML parser with anything
        raise _damaged(path, error) from error


def _rows(workbook: Any, path: Path) -> Iterator[Any]:
    sheet = workbook.worksheets[0]
    sheet.reset_dimensions()  # some programs write a wrong size into the file
    rows = sheet.iter_rows()
    while True:
        try:
            row = next(rows, None)
        except Exception as error:  # see _open
            raise _damaged(path, error) from error
        if row is None:
            return
        yield row


def _damaged(path: Path, error: Exception) -> TableError:
    return TableError(
        f"not an xlsx file that can be read: {error}",
        where=path.name,
        hint="open it in a spreadsheet program, remove any password, and save it as .xlsx or as csv",
    )
