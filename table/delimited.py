"""csv, tsv and txt, read line by line."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..errors import TableError
from .encoding import open_text
from .source import Record

DELIMITERS = ",;\t，|"


class Delimited:
    """A table whose cells are divided by one character. Quotes as in RFC 4180, taken strictly."""

    unit = "line"

    def __init__(self, path: Path, encoding: str, delimiter: str | None, usual: str = ",") -> None:
        """
        :param usual: the delimiter to take when the header does not tell, and not worth a note.
        :raises TableError: empty, an unusable delimiter, or a broken header.
        """
        self._path = path
        self._encoding = encoding
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise TableError(
                "a delimiter is one character, no quote and no line end",
                where="--delimiter",
                value=delimiter,
                hint="--delimiter ';'",
            )
        self.delimiter = delimiter or self._detect(usual)
        self.notes = [] if self.delimiter == usual else [f"delimiter {self.delimiter!r}"]
        place, first = next(self._filled(), (1, None))
        if first is None:
            raise TableError(
                "the table is empty", where=path.name, hint="put column names into the first line"
            )
        if isinstance(first, TableError):
            raise first
        self.header_place, self.header = place, first

    def records(self) -> Iterator[Record]:
        """Every record below the header."""
        records = self._filled()
        next(records)
        return records

    def _filled(self) -> Iterator[Record]:
        """All records from the header on."""
        with open_text(self._path, self._encoding, newline="") as file:
            reader = csv.reader(file, delimiter=self.delimiter, strict=True)
            line = 1
            while True:
                try:
                    for record in reader:
                        if record:
                            yield line, record
                        line = reader.line_num + 1
                    return
                except csv.Error as error:
                    yield line, self._explain(str(error), line, reader.line_num)
                    line = reader.line_num + 1

    def _explain(self, reason: str, first: int, last: int) -> TableError:
        where = f"{self._path.name} line {first}"
        until = f" (the record goes on to line {last})" if last > first else ""
        if "unexpected end" in reason:
            return TableError(
                f"a quote is opened here and never closed{until}",
                where=where,
                hint='close it; a quote in text is ""',
            )
        if "limit" in reason:
            return TableError(
                f"a cell is far too long, or a quote is opened here and never closed{until}",
                where=where,
                hint='close the quote; a quote in text is ""',
            )
        if "NUL" in reason:
            return TableError("a control character (U+0000)", where=where, hint="delete this character")
        return TableError(
            f"text follows a closing quote{until}",
            where=where,
            hint='double quotes inside a quoted cell, as in "a 5"" pot"',
        )

    def _detect(self, usual: str) -> str:
        """The candidate most frequent outside quotes in the header."""
        with open_text(self._path, self._encoding) as file:
            head = file.read(65_536).lstrip("\n")
        counts: Counter[str] = Counter()
        quoted = False
        for character in head:
            if character == '"':
                quoted = not quoted
            elif not quoted and character == "\n":
                break
            elif not quoted and character in DELIMITERS:
                counts[character] += 1
        return max(usual + DELIMITERS, key=lambda candidate: counts[candidate])


class Lines:
    """One prompt a line, no header."""

    unit = "line"
    header = ("prompt",)
    header_place = 1

    def __init__(self, path: Path, encoding: str) -> None:
        self._path = path
        self._encoding = encoding
        self.notes: list[str] = []

    def records(self) -> Iterator[Record]:
        """Every line without its end."""
        with open_text(self._path, self._encoding) as file:
            for place, line in enumerate(file, 1):
                yield place, [line.rstrip("\n")]
