"""Files that are whole or as they were before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from ...errors import OutputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling to write: it takes the place of ``path`` at the end, or goes away on an error.

    :raises OutputError: ``path`` cannot be replaced; on Windows, because another program has it open.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".promptmill-{uuid4().hex}.part")
    try:
        yield part
        try:
            part.replace(path)
        except OSError as error:
            raise OutputError(
                f"the file cannot be replaced: {error.strerror}",
                where=str(path),
                hint=f"close it in other programs, then: promptmill report {path.parent}",
            ) from error
    finally:
        part.unlink(missing_ok=True)
