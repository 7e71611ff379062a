"""A table that was pasted as text."""

from __future__ import annotations

import hashlib
import re
import uuid
from pathlib import Path

from ..errors import TableError
from .columns import ALIASES, clean
from .delimited import DELIMITERS

_NAMES = {alias for name, aliases in ALIASES.items() for alias in (name, *aliases)}


def pasted_table(text: str, folder: Path) -> Path:
    """
    Text as a file below ``folder``, for ``open_table``: json, jsonl, csv where the first line has a column name that
    means something, else one prompt a line. The same text gives the same file.

    :raises TableError: text that no file can hold.
    """
    try:
        content = (text.strip("\r\n") + "\n").encode()
    except UnicodeEncodeError as error:
        raise TableError("a lone surrogate in the pasted text", value=text[error.start : error.end]) from None
    path = folder / hashlib.sha256(content).hexdigest()[:16] / f"pasted{_suffix(text.strip())}"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{uuid.uuid4().hex}.part")
        part.write_bytes(content)
        part.replace(path)
    return path


def _suffix(text: str) -> str:
    if found := re.match(r'\[\s*\{\s*"|\{\s*"', text):
        return ".json" if found.group().startswith("[") else ".jsonl"
    first = text.partition("\n")[0]
    cells = {clean(cell.strip(' "')).casefold() for cell in re.split(f"[{DELIMITERS}]", first)}
    return ".csv" if cells & _NAMES else ".txt"
