"""The ledger's view of a run as the report wants it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from ...table import Entry, name_key, read_entries
from ..ledger import Ledger
from ..output import OutputFolder
from ..report import write_report


def entries_of(ledger: Ledger, run_id: str) -> Iterator[Entry]:
    """A line per image, and one per job without an image, in table order."""
    for line in ledger.entries(run_id):
        yield Entry(
            id=line["row_id"],
            row=line["row_number"],
            variant=line["variant"],
            index=line["ordinal"] or 0,
            file=line["file"] or "",
            sha256=line["sha256"] or "",
            prompt=line["prompt"],
            negative=line["negative"],
            seed=None if line["seed"] is None else int(line["seed"]),
            width=line["width"],
            height=line["height"],
            server=line["server"] or "",
            seconds=line["seconds"],
            attempts=line["attempts"],
            status=line["state"],
            error=line["error"],
            thumbnail=line["thumbnail"] or "",
        )


def canvas_entries(ledger: Ledger, folder: OutputFolder) -> Iterator[Entry]:
    """The manifest's lines of images that the canvas made of rows that this run was not asked for."""
    of_canvas = {entry.file: entry for entry in read_entries(folder.path) if entry.file and not entry.server}
    for file, entry in of_canvas.items():
        if ledger.image_at(folder.run_id, name_key(file)) is None and (folder.path / file).is_file():
            yield entry


def summary_of(ledger: Ledger, run_id: str) -> dict[str, str | int]:
    """Jobs by state, those states that occur."""
    return {state.value: count for state, count in ledger.counts(run_id).items() if count}


def report_on(ledger: Ledger, folder: OutputFolder) -> None:
    """Write the manifests and the contact sheet of a run into its folder."""
    write_report(
        folder.path,
        folder.path.resolve().name,
        lambda: chain(entries_of(ledger, folder.run_id), canvas_entries(ledger, folder)),
        summary_of(ledger, folder.run_id),
    )
