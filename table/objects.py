"""json and jsonl: objects whose values are text, numbers, true, false or null."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import TableError
from .columns import clean
from .encoding import open_text
from .source import Record


class _Pairs(list[tuple[str, Any]]):
    """An object as it stands in the file, doubled keys included."""


# numbers keep the digits of the file
_DECODER = json.JSONDecoder(object_pairs_hook=_Pairs, parse_int=str, parse_float=str, parse_constant=str)


class JsonList:
    """A list of objects in one JSON document, held in memory. The columns are the keys of all objects."""

    unit = "item"
    header_place = 1

    def __init__(self, path: Path, encoding: str) -> None:
        """:raises TableError: not JSON, or not a list."""
        self._path = path
        self.notes: list[str] = []
        with open_text(path, encoding) as file:
            self._items = _decode(file.read(), path.name)
        if type(self._items) is not list:
            raise TableError(
                "a json table is a list of objects", where=path.name, hint='[{"prompt": "..."}, ...]'
            )
        if not self._items:
            raise TableError("the table is empty", where=path.name, hint='[{"prompt": "..."}, ...]')
        keys = (clean(key) for item in self._items if isinstance(item, _Pairs) for key, _ in item)
        self.header = list(dict.fromkeys(keys))

    def records(self) -> Iterator[Record]:
        """Every object."""
        positions = {key: position for position, key in enumerate(self.header)}
        for place, item in enumerate(self._items, 1):
            yield place, _record(item, positions, f"{self._path.name} item {place}")


class JsonLines:
    """One object a line. The columns are the keys of the first."""

    unit = "line"

    def __init__(self, path: Path, encoding: str) -> None:
        """:raises TableError: empty, or the first line holds no object."""
        self._path = path
        self._encoding = encoding
        self.notes: list[str] = []
        place, line = next(self._lines(), (1, ""))
        if not line:
            raise TableError("the table is empty", where=path.name, hint='{"prompt": "..."} on every line')
        self.header_place = place
        first = _decode(line, f"{path.name} line {place}")
        self.header = list(dict.fromkeys(clean(key) for key, _ in first)) if isinstance(first, _Pairs) else []

    def records(self) -> Iterator[Record]:
        """Every object, read as it comes."""
        positions = {key: position for position, key in enumerate(self.header)}
        for place, line in self._lines():
            where = f"{self._path.name} line {place}"
            try:
                item = _decode(line, where)
            except TableError as error:
                yield place, error
            else:
                yield place, _record(item, positions, where)

    def _lines(self) -> Iterator[tuple[int, str]]:
        with open_text(self._path, self._encoding) as file:
            for place, line in enumerate(file, 1):
                if not line.isspace():
                    yield place, line.rstrip("\n")


def _decode(text: str, where: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        place = f", line {error.lineno}" if error.lineno > 1 else ""
        raise TableError(
            f"not JSON: {error.msg}",
            where=f"{where}{place}, column {error.colno}",
            value=error.doc[error.pos : error.pos + 40],
            hint="every object in {}, keys and text in double quotes, no comma after the last",
        ) from None
    except RecursionError:
        raise TableError(
            "nested far too deep", where=where, hint="text, numbers, true, false and null only"
        ) from None


def _record(item: Any, positions: dict[str, int], where: str) -> list[str] | TableError:
    """The values in the order of the columns; what is missing is blank."""
    if not isinstance(item, _Pairs):
        return TableError("not an object", where=where, value=item, hint='{"prompt": "..."}')
    cells: list[str | None] = [None] * len(positions)
    for key, value in item:
        position = positions.get(key)
        if position is None:
            position = positions.get(clean(key))
        if position is None:
            return TableError(
                "a key that the first object does not have",
                where=where,
                value=key,
                hint="give the first object all keys (null is blank), or store the table as .json",
            )
        if cells[position] is not None:
            return TableError("the key stands twice in the object", where=where, value=key, hint="delete one")
        if isinstance(value, list):
            return TableError(
                "nested values have no place in a table",
                where=f"{where}, key {key}",
                hint="text, numbers, true, false and null only",
            )
        cells[position] = value if isinstance(value, str) else {None: "", True: "true", False: "false"}[value]
    return [cell or "" for cell in cells]
