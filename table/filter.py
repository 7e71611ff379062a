"""Which rows, by what stands in them: ``style = watercolor``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ..errors import TableError
from .columns import clean


class Filter:
    """Conditions, one a line, that a row must all meet: ``column = text`` or ``column != text``.

    Letter case does not matter; ``*`` in the text stands for anything, and an empty text for a blank cell.
    """

    def __init__(self, text: str, columns: Iterable[str], known: Mapping[str, str]) -> None:
        """:raises TableError: a line that is no condition, or a column that the table does not have."""
        names = {**{column.casefold(): column for column in columns}, **known}
        self._conditions: list[tuple[str, bool, re.Pattern[str]]] = []
        for line in filter(str.strip, text.splitlines()):
            name, sign, wanted = line.partition("=")
            equal = not name.endswith("!")
            column = names.get(clean(name.removesuffix("!")).casefold())
            if not sign or column is None or wanted.startswith("="):
                raise TableError(
                    "a condition is column = text, with a column of the table",
                    where="filter",
                    value=line,
                    hint=f"one of: {', '.join(columns)}",
                )
            parts = map(re.escape, clean(wanted).casefold().split("*"))
            self._conditions.append((column, equal, re.compile(".*".join(parts), re.DOTALL)))

    def __call__(self, fields: Mapping[str, str]) -> bool:
        """Whether the row's fields meet all conditions."""
        return all(
            bool(pattern.fullmatch(clean(fields[column]).casefold())) is equal
            for column, equal, pattern in self._conditions
        )
