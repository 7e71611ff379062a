"""
What a finished image says of the job that it was made for.

The canvas and the driver both write it into the PNG, under the keyword ``promptmill``. So each recognizes the other's
work from the files alone, whatever crashed in between.
"""

from __future__ import annotations

import json
from os import SEEK_CUR, SEEK_END
from pathlib import Path
from typing import Any, BinaryIO

from .jobs import Job

KEYWORD = "promptmill"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"\0\0\0\0IEND\xaeB`\x82"


def stamp(job: Job) -> dict[str, Any]:
    """What the image of a job carries."""
    return {
        "id": job.row.id,
        "row": job.row.number,
        "variant": job.variant,
        "seed": job.seed,
        "prompt": job.prompt,
        "negative": job.negative,
        "digest": job.digest,
    }


def read_stamp(path: Path) -> dict[str, Any] | None:
    """
    What the PNG at ``path`` carries; None where there is no such file, it is no PNG or not a whole one, or carries
    nothing. Reads the text before the pixels and the end, whatever the size of the image.
    """
    try:
        with path.open("rb") as file:
            found = json.loads(_text(file, KEYWORD) or "null")
            file.seek(-len(END), SEEK_END)
            whole = file.read() == END
    except (OSError, ValueError):
        return None
    return found if whole and isinstance(found, dict) else None


def _text(file: BinaryIO, keyword: str) -> str | None:
    """The text chunk with this keyword, as PNG's specification lays chunks out: length, type, data, checksum."""
    wanted = keyword.encode() + b"\0"
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return None
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"IDAT":
            return None
        if kind == b"tEXt" and file.read(len(wanted)) == wanted:
            return file.read(length - len(wanted)).decode("latin-1")
        file.seek(length + 4 - (len(wanted) if kind == b"tEXt" else 0), SEEK_CUR)
    return None


def is_done(job: Job, out: Path) -> bool:
    """Whether the job's image is in its place, made from the same values."""
    found = read_stamp(out / job.file)
    return found is not None and found.get("digest") == job.digest
