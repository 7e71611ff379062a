"""What a report knows about one image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a run, or one job that has none (then ``file``, ``sha256`` and ``thumbnail`` are "").

    ``row`` and ``variant`` count from 1; ``index`` is the image's place within its job. ``width`` and
    ``height`` are pixels, ``seconds`` is the server's time for the attempt that made the image. ``file`` and
    ``thumbnail`` are relative to the output folder, with ``/`` on every system. ``status`` is a job state:
    pending, submitted, done, failed, quarantined or cancelled.
    """

    id: str
    row: int
    variant: int
    index: int
    file: str
    sha256: str
    prompt: str
    negative: str
    seed: int | None
    width: int | None
    height: int | None
    server: str
    seconds: float | None
    attempts: int
    status: str
    error: str
    thumbnail: str
