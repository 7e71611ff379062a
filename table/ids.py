"""What a row is called when its table does not say."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from unicodedata import normalize

from .columns import clean
from .duplicates import Duplicates

Identify = Callable[[Sequence[str]], str]


def by_column(position: int) -> Identify:
    """The cell, trimmed and NFC."""

    def identify(record: Sequence[str]) -> str:
        text = record[position].strip()
        return text if text.isascii() else clean(text)

    return identify


def by_content(columns: Sequence[str], known: Mapping[str, str]) -> Identify:
    """
    16 hexadecimal digits of the row's filled cells, whatever the order of the columns, and whichever of its names a
    known column has.
    """
    meanings = {column: meaning for meaning, column in known.items()}
    named = sorted((meanings.get(column, column), position) for position, column in enumerate(columns))

    def identify(record: Sequence[str]) -> str:
        # the dividers are control characters, which no cell can hold
        text = "\x1f".join(f"{name}\x1e{record[position]}" for name, position in named if record[position])
        return hashlib.blake2b(normalize("NFC", text).encode(), digest_size=8).hexdigest()

    return identify


def numbered(identify: Identify, records: Iterable[Sequence[str]]) -> Callable[[], Identify]:
    """
    Tell identical rows apart by their occurrence: ``5a…``, ``5a…-2``, ``5a…-3``.

    :param records: all rows, gone through once now, so that only repeated ids are kept in memory.
    :return: makes a fresh ``identify`` for each pass over the rows.
    """
    duplicates = Duplicates()
    for record in records:
        duplicates.add(identify(record))
    repeated = duplicates.suspects()

    def fresh() -> Identify:
        times: Counter[str] = Counter()

        def count(record: Sequence[str]) -> str:
            row_id = identify(record)
            if Duplicates.of(row_id) not in repeated:
                return row_id
            times[row_id] += 1
            return row_id if times[row_id] == 1 else f"{row_id}-{times[row_id]}"

        return count

    return fresh
