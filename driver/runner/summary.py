"""The ledger's view of a run as the report wants it."""

from __future__ import annotations

from collections.abc import Iterator

from ..ledger import Ledger
from ..output import OutputFolder
from ..report import Entry, write_report


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


def summary_of(ledger: Ledger, run_id: str) -> dict[str, str | int]:
    """Jobs by state, those states that occur."""
    return {state.value: count for state, count in ledger.counts(run_id).items() if count}


def report_on(ledger: Ledger, folder: OutputFolder) -> None:
    """Write the manifests and the contact sheet of a run into its folder."""
    write_report(
        folder.path,
        folder.path.resolve().name,
        lambda: entries_of(ledger, folder.run_id),
        summary_of(ledger, folder.run_id),
    )
