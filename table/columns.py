"""The header: which columns there are, and which of them have a meaning."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import Problems, TableError
from .cells import check_cell

ALIASES: dict[str, tuple[str, ...]] = {
    "id": ("编号", "編號"),
    "sku": ("货号", "貨號", "商品编号", "商品编码"),
    "prompt": ("提示词", "提示詞", "正面提示词", "正向提示词"),
    "negative": ("negative_prompt", "负面提示词", "負面提示詞", "反向提示词"),
    "seed": ("种子", "種子", "随机种子"),
    "width": ("宽", "宽度", "寬", "寬度"),
    "height": ("高", "高度"),
    "steps": ("步数", "步數"),
    "cfg": (),
    "filename": ("file_name", "文件名", "檔名"),
}
"""Canonical name -> its other names. Letter case does not matter, nor whether it is a space or an underscore."""

_CANONICAL = {alias: name for name, aliases in ALIASES.items() for alias in (name, *aliases)}


def clean(text: str) -> str:
    """Trimmed and in Unicode's composed form (NFC), as ids and column names are compared."""
    return unicodedata.normalize("NFC", text).strip()


@dataclass(frozen=True, slots=True)
class Header:
    """The columns that have a name."""

    columns: tuple[str, ...]
    positions: tuple[int, ...]
    """Where each stands in the file's own columns, 0-based."""
    width: int
    """How many columns the file has, nameless ones included."""
    known: dict[str, str]


def read_header(raw: Sequence[str], where: str) -> Header:
    """
    Names, trimmed and NFC. A column without a name is left out (spreadsheets save empty columns at the end).

    :raises TableError: no names at all, an unusable name, two columns of one name or one meaning; as Problems when
        there are several.
    """
    problems = Problems()
    places: dict[str, int] = {}
    known: dict[str, str] = {}
    for position, column in enumerate(map(clean, raw)):
        if not column:
            continue
        try:
            check_cell(column, f"{where}, column {position + 1}")
        except TableError as error:
            problems.add(error)
            continue
        meaning = _CANONICAL.get(column.casefold().replace(" ", "_"))
        if column in places:
            message = f"columns {places[column] + 1} and {position + 1} have the same name"
        elif meaning in known:
            message = f"columns {known[meaning]!r} and {column!r} both mean {meaning!r}"
        else:
            places[column] = position
            if meaning:
                known[meaning] = column
            continue
        problems.add(TableError(message, where=where, value=column, hint="rename or delete one of them"))
    problems.raise_if_any()
    if not places:
        raise TableError("no column has a name", where=where, hint="put the column names into the first line")
    return Header(tuple(places), tuple(places.values()), len(raw), known)
