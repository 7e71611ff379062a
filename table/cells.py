"""What a cell may hold, and how other types become text."""

from __future__ import annotations

import datetime
import decimal
import re

from ..errors import TableError

CELL_CAP = 65_536
"""The most characters a cell may hold."""

EXACT_DIGITS = 15
"""How many digits of a whole number a spreadsheet's number keeps."""

_REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def check_cell(text: str, where: str) -> None:
    """
    Refuse what no prompt can mean: control characters other than newline, return and tab, lone surrogates, and
    more than ``CELL_CAP`` characters.

    :raises TableError: with the character and its position.
    """
    if len(text) > CELL_CAP:
        raise TableError(
            f"the cell has {len(text):,} characters; at most {CELL_CAP:,} are allowed",
            where=where,
            value=text[:40],
            hint="shorten it; if a quote is open by mistake, close it",
        )
    if found := _REFUSED.search(text):
        character = found.group()
        kind = "a lone surrogate" if character >= "\ud800" else "a control character"
        raise TableError(
            f"{kind} (U+{ord(character):04X}) at position {found.start() + 1} of the cell",
            where=where,
            value=text[max(0, found.start() - 20) : found.start() + 20],
            hint="delete this character",
        )


def cell_text(value: object, *, exact_integers: bool) -> str:
    """
    A typed cell as the user sees it: 7 and not 7.0, ISO dates, ``true``, nothing for null.

    :param exact_integers: whether whole numbers of any length arrive unrounded in ``value`` (parquet), or the
        file may have rounded them (a spreadsheet).
    :raises TableError: a type that has no text, or a whole number that may have lost digits.
    """
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and exact_integers:
        return str(value)
    if isinstance(value, (int, float)):
        return _number_text(value, exact_integers)
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return str(value)
    raise TableError(
        f"a cell of type {type(value).__name__} has no text; use text, numbers, dates or true/false",
        value=value,
    )


def _number_text(value: int | float, exact: bool) -> str:
    if value in (float("inf"), float("-inf")):
        raise TableError("an infinite number", value=value)
    if value != int(value):
        return repr(value) if exact else format(value, f".{EXACT_DIGITS}g")
    text = str(int(value))
    if len(text.lstrip("-")) > EXACT_DIGITS:
        raise TableError(
            f"a whole number of more than {EXACT_DIGITS} digits in a number cell has lost its last digits",
            value=value,
            hint="store the column as text and type the number again",
        )
    return text
