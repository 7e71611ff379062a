"""A table: a file in any of the formats, as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ..errors import SHOWN_AT_ONCE, Problems, PromptmillError, TableError
from .cells import CELL_CAP, check_cell
from .columnar import Parquet
from .columns import read_header
from .delimited import Delimited, Lines
from .duplicates import Duplicates
from .encoding import choose_encoding
from .ids import Identify, by_column, by_content, numbered
from .objects import JsonLines, JsonList
from .seeds import parse_seed
from .sheet import Sheet
from .source import Record, Source

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "txt",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".xlsx": "xlsx",
    ".parquet": "parquet",
}
LINES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table."""

    number: int
    """1-based, among the rows that are not blank."""
    line: int
    """Where the row starts in the file, 1-based: the line; in xlsx and parquet the row, in json the item."""
    id: str
    fields: dict[str, str]
    """Column as in the file -> text; "" where blank. Ids (NFC, too) and seeds are trimmed, all else is as it was."""


class Table:
    """A table that was opened by ``open_table``; it may be read any number of times."""

    path: Path
    format: str
    encoding: str | None
    delimiter: str | None
    columns: tuple[str, ...]
    """Trimmed, NFC, in the order of the file."""
    known: dict[str, str]
    """Canonical name -> column as in the file."""
    notes: list[str]
    """What was detected, to be shown to the user."""

    def __init__(self, path: Path, format: str, encoding: str | None, source: Source) -> None:
        self.path = path
        self.format = format
        self.encoding = encoding
        self.delimiter = source.delimiter if isinstance(source, Delimited) else None
        self._source = source
        self._header = read_header(source.header, self._where(source.header_place))
        self._nameless = sorted(set(range(self._header.width)) - set(self._header.positions))
        self._numbered: Callable[[], Identify] | None = None
        self.columns = self._header.columns
        self.known = self._header.known
        self._id_column = self.known.get("id") or self.known.get("sku")
        self._seed_column = self.known.get("seed")
        self.notes = []

    def rows(self, problems: Problems | None = None) -> Iterator[Row]:
        """
        Read from the start. A faulty row is left out and told.

        :param problems: collects what is wrong with rows; without it the first fault is raised.
        :raises TableError: a faulty row, or after the last row an id that stands there twice.
        """
        tell: Callable[[PromptmillError], None] = _raise if problems is None else problems.add
        identify = self._identify()
        ids = Duplicates()
        for number, (line, record) in enumerate(self._records(), 1):
            try:
                row = self._row(number, line, record, identify)
            except TableError as error:
                tell(error)
                continue
            ids.add(row.id)
            yield row
        if suspects := ids.suspects():
            for doubled in self._doubled(suspects):
                tell(doubled)

    def _row(self, number: int, line: int, record: list[str] | TableError, identify: Identify) -> Row:
        if isinstance(record, TableError):
            raise record
        fields = dict(zip(self.columns, record, strict=True))
        row_id = identify(record)
        if self._id_column is not None:
            if not row_id:
                raise TableError(
                    "the row has no id",
                    where=f"{self._where(line)}, column {self._id_column}",
                    value=fields[self._id_column],
                    hint="fill this cell, or delete the column to have ids made from the rows",
                )
            fields[self._id_column] = row_id
        if self._seed_column is not None:
            fields[self._seed_column] = seed = fields[self._seed_column].strip()
            try:
                if seed:
                    parse_seed(seed)
            except TableError as error:
                error.where = f"{self._where(line)}, column {self._seed_column}"
                raise
        return Row(number, line, row_id, fields)

    def _identify(self) -> Identify:
        if self._id_column is not None:
            return by_column(self.columns.index(self._id_column))
        if self._numbered is None:
            self._numbered = numbered(by_content(self.columns, self.known), self._sound_records())
        return self._numbered()

    def _records(self) -> Iterator[Record]:
        """Records that are not blank, with the named columns only; or what is wrong with them."""
        width = self._header.width
        for line, record in self._source.records():
            if isinstance(record, TableError):
                yield line, record
                continue
            text = "".join(record)
            if not text or text.isspace():
                continue
            plain = len(record) == width and len(text) <= CELL_CAP and text.isprintable()
            yield line, record if plain and not self._nameless else self._examined(line, record)

    def _examined(self, line: int, record: list[str]) -> list[str] | TableError:
        where = self._where(line)
        if len(record) != self._header.width:
            return TableError(
                f"the row has {len(record)} cells, the header has {self._header.width} columns",
                where=where,
                value=record,
                hint='put quotes around cells that hold the delimiter or a line end: "a red, round vase"',
            )
        for position in self._nameless:
            if record[position].strip():
                place = f"{where}, column {position + 1}"
                return TableError(
                    "the column has no name", where=place, value=record[position], hint="name it"
                )
        cells = [record[position] for position in self._header.positions]
        try:
            for column, cell in zip(self.columns, cells, strict=True):
                check_cell(cell, f"{where}, column {column}")
        except TableError as error:
            return error
        return cells

    def _sound_records(self) -> Iterator[list[str]]:
        return (record for _, record in self._records() if not isinstance(record, TableError))

    def _doubled(self, suspects: set[int]) -> Iterator[TableError]:
        """Read once more and name the lines of each id that stands there twice."""
        identify = self._identify()
        lines: dict[str, list[int]] = {}
        for line, record in self._records():
            if isinstance(record, TableError):
                continue
            row_id = identify(record)
            if Duplicates.of(row_id) in suspects and (row_id in lines or len(lines) < 2 * SHOWN_AT_ONCE):
                lines.setdefault(row_id, []).append(line)
        for row_id, places in lines.items():
            if len(places) > 1:
                shown = ", ".join(map(str, places[:LINES_SHOWN])) + (
                    ", ..." if len(places) > LINES_SHOWN else ""
                )
                yield TableError(
                    f"{len(places)} rows have the same id: {self._source.unit}s {shown}",
                    where=self.path.name,
                    value=row_id,
                    hint="delete or rename all but one, or add a column id",
                )

    def _where(self, place: int) -> str:
        return f"{self.path.name} {self._source.unit} {place}"

    def _first_row(self) -> str:
        """The first sound row in short; "" when there is none."""
        record = next(self._sound_records(), None)
        if record is None:
            return ""
        cells = [f"{column} = {cell[:40]}" for column, cell in zip(self.columns, record, strict=True) if cell]
        return "first row: " + ", ".join(cells[:4])


def open_table(path: Path | str, *, encoding: str | None = None, delimiter: str | None = None) -> Table:
    """
    Look at a table: its format by its suffix, encoding, delimiter, columns. The rows are read by ``Table.rows``.

    :param encoding: a name that Python knows, for text formats; detected when None.
    :param delimiter: one character, for csv and tsv; detected when None.
    :raises TableError: the file cannot be read, is empty, has no rows or a broken header; as Problems when
        the header has several faults.
    """
    path = Path(path)
    format = FORMATS.get(path.suffix.lower())
    if format is None:
        hint = "save it as .xlsx" if path.suffix.lower() == ".xls" else f"one of {', '.join(FORMATS)}"
        raise TableError("no table format has this suffix", where=path.name, value=path.suffix, hint=hint)
    try:
        source, used, detected = _open(path, format, encoding, delimiter)
    except OSError as error:
        raise TableError(
            f"the table cannot be read: {error.strerror or error}", where=str(path), hint="check the path"
        ) from error
    table = Table(path, format, used, source)
    if next(table._records(), None) is None:
        message = "the table is empty" if format == "txt" else "the table has column names, but no rows"
        raise TableError(message, where=path.name, hint="fill in at least one row, and save the file")
    if found := detected + source.notes:
        table.notes.append(", ".join(found))
    if detected:
        table.notes.append(table._first_row())
    return table


def _open(
    path: Path, format: str, encoding: str | None, delimiter: str | None
) -> tuple[Source, str | None, list[str]]:
    """The source, its encoding, and notes on how that was found."""
    if format in ("xlsx", "parquet"):
        path.open("rb").close()
        return Sheet(path) if format == "xlsx" else Parquet(path), None, []
    encoding, notes = choose_encoding(path, encoding)
    if format in ("csv", "tsv"):
        usual = "\t" if format == "tsv" else ","
        return Delimited(path, encoding, delimiter, usual), encoding, notes
    if format == "txt":
        return Lines(path, encoding), encoding, notes
    return JsonList(path, encoding) if format == "json" else JsonLines(path, encoding), encoding, notes


def _raise(problem: PromptmillError) -> NoReturn:
    raise problem
