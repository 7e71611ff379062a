"""What a run leaves beside its images: manifest.csv, manifest.jsonl and index.html."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ...table import Entry
from .manifest import write_manifest
from .sheet import write_contact_sheet
from .thumbnail import THUMBNAIL_SIZE, save_thumbnail

__all__ = [
    "THUMBNAIL_SIZE",
    "Entry",
    "save_thumbnail",
    "write_contact_sheet",
    "write_manifest",
    "write_report",
]


def write_report(
    out: Path,
    title: str,
    entries: Sequence[Entry] | Callable[[], Iterable[Entry]],
    summary: Mapping[str, str | int],
) -> None:
    """Write the manifests and the contact sheet; ``entries`` is read twice, a callable is called twice."""
    write_manifest(out, entries() if callable(entries) else entries)
    write_contact_sheet(out, title, entries() if callable(entries) else entries, summary)
