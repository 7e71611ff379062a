"""Which encoding a text file has: byte order mark, then UTF-8, then GB18030; anything else must be named."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ..errors import TableError
from .plausible import decode_start, rank_rivals, share_common

SAMPLE = 65_536
"""Bytes looked at to weigh one encoding against another; validity is checked over the whole file."""

PLAUSIBLE = 0.8
"""The least share of common characters, see plausible.py."""

WEAK = 12
"""Below so many characters beyond ASCII a guess is weak."""

_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_FORMATS = (
    (b"PK\x03\x04", "xlsx", ".xlsx"),
    (b"PAR1", "parquet", ".parquet"),
    (b"\xd0\xcf\x11\xe0", "xls", ""),
)


def choose_encoding(path: Path, asked: str | None = None) -> tuple[str, list[str]]:
    """
    The encoding of the whole file, and notes that say what was detected. Reads in constant memory.

    :param asked: the encoding the user names; only checked.
    :raises TableError: no encoding is certain, or the file is not valid in it.
    """
    with path.open("rb") as file:
        head = file.read(SAMPLE)
    for magic, kind, suffix in _OTHER_FORMATS:
        if head.startswith(magic):
            hint = f"name it {path.stem}{suffix}" if suffix else "save it as .xlsx"
            raise TableError(f"this is an {kind} file, not text", where=path.name, hint=hint)
    if asked is not None:
        return _checked(path, _codec(asked), "leave --encoding out to have it detected"), []
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            _checked(path, encoding, "save it again as UTF-8, or name its encoding with --encoding")
            return encoding, [f"read as {encoding.upper()} (byte order mark)"]
    _refuse_bare_utf16(path, head)
    if _first_fault(path, "utf-8") is None:
        return "utf-8", _weak_utf8(head)
    return _gb18030_or_advice(path)


@contextmanager
def open_text(path: Path, encoding: str, *, newline: str | None = None) -> Iterator[TextIO]:
    """The file as text behind its byte order mark. Lone surrogates pass: they are faults of their row."""
    with path.open(encoding=encoding, errors=_errors(encoding), newline=newline) as file:
        if file.read(1) != "\ufeff":
            file.seek(0)
        yield file


def _codec(asked: str) -> str:
    try:
        b"a".decode(asked, "ignore")
        return codecs.lookup(asked).name
    except (LookupError, ValueError):
        raise TableError(
            "no such encoding",
            where="--encoding",
            value=asked,
            hint="--encoding gb18030, or utf-8, big5, shift_jis",
        ) from None


def _errors(encoding: str) -> str:
    return "surrogatepass" if encoding.startswith("utf-") else "strict"


def _checked(path: Path, encoding: str, hint: str) -> str:
    try:
        fault = _first_fault(path, encoding)
    except UnicodeError as error:  # UTF-16 that lacks its byte order mark
        raise TableError(f"not valid {encoding.upper()}: {error}", where=path.name, hint=hint) from None
    if fault:
        line, found = fault
        raise TableError(
            f"not valid {encoding.upper()}", where=f"{path.name} line {line}", value=found, hint=hint
        )
    return encoding


def _first_fault(path: Path, encoding: str) -> tuple[int, bytes] | None:
    """Line and bytes of the first fault."""
    decoder = codecs.getincrementaldecoder(encoding)(_errors(encoding))
    line = 1
    with path.open("rb") as file:
        chunk = None
        while chunk != b"":
            chunk = file.read(1 << 20)
            try:
                line += decoder.decode(chunk, final=not chunk).count("\n")
            except UnicodeDecodeError as error:
                line += error.object[: error.start].decode(encoding, "ignore").count("\n")
                return line, error.object[error.start : error.start + 4]
    return None


def _refuse_bare_utf16(path: Path, head: bytes) -> None:
    """UTF-16 shows by its NULs; without a byte order mark it is not taken, for other files decode as UTF-16, too."""
    if b"\0" not in head:
        return
    for encoding in ("utf-16-le", "utf-16-be"):
        text = decode_start(head, encoding) or "\0"
        beyond = sum(character > "~" for character in text)
        controls = sum(character < " " and character not in "\t\r\n" for character in text)
        strange = controls + beyond * (1 - share_common(text, "any"))
        if strange <= (1 - PLAUSIBLE) * len(text):
            raise TableError(
                f"looks like {encoding.upper()} without a byte order mark",
                where=path.name,
                value=head[:16],
                hint=f"--encoding {encoding}",
            )


def _weak_utf8(head: bytes) -> list[str]:
    """A short GBK string can be valid UTF-8 by chance; it then shows as rare letters."""
    text = head.decode("utf-8", "ignore")
    beyond = sum(character > "\x7f" for character in text)
    other = decode_start(head, "gb18030")
    if len(head) == SAMPLE or beyond >= WEAK or other is None or share_common(other, "gb18030") < PLAUSIBLE:
        return []
    if share_common(text, "any") == 1.0:
        return []
    return [
        f"read as UTF-8, a weak guess from {beyond} characters beyond ASCII: if they are wrong, --encoding gb18030"
    ]


def _gb18030_or_advice(path: Path) -> tuple[str, list[str]]:
    sample = _lines_beyond_ascii(path)
    repaired = sample.decode("utf-8", "replace")
    if share_common(repaired, "any") > 0.5:
        _checked(
            path, "utf-8", "most of the file is UTF-8: repair this line, or save the table again as UTF-8"
        )
    text = decode_start(sample, "gb18030", "replace") or ""
    share = share_common(text, "gb18030")
    rivals = rank_rivals(sample)
    weak = sum(character > "\x7f" for character in text) < WEAK
    if share >= PLAUSIBLE and (weak or not rivals or share > rivals[0][0]):
        _checked(path, "gb18030", "save the table again as UTF-8")
        note = " (a weak guess from few characters: check the first row)" if weak else ""
        return "gb18030", [f"read as GB18030{note}"]
    likely = [codec for rival_share, codec in rivals if rival_share >= PLAUSIBLE]
    likely += [name for name in _advice(sample) if name not in likely]
    if share >= 0.5:
        likely.append("gb18030")
    fault = _first_fault(path, "utf-8")
    assert fault is not None
    raise TableError(
        f"neither UTF-8 nor plainly GB18030; likely {', '.join(likely[:3]) or 'unknown'}",
        where=f"{path.name} line {fault[0]}",
        value=fault[1],
        hint=f"--encoding {likely[0] if likely else 'cp1252'}, or save the table again as UTF-8",
    )


def _lines_beyond_ascii(path: Path) -> bytes:
    sample = b""
    with path.open("rb") as file:
        for line in file:
            if not line.isascii():
                sample += line
            if len(sample) >= SAMPLE:
                break
    return sample[:SAMPLE]


def _advice(sample: bytes) -> list[str]:
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        return []
    best = from_bytes(sample).best()
    return [] if best is None or best.encoding in ("gb18030", "ascii") else [best.encoding]
