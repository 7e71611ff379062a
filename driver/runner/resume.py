"""Where a run left off: the folder, the ledger and the servers against what is asked now."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from ...errors import OutputError, Problems, ServerError
from ...table import read_stamp
from ..ledger import AttemptState, ClaimedJob, JobState, Ledger
from ..output import OutputFolder
from .request import Prepared


def record_plan(
    prepared: Prepared,
    table: Path,
    folder: OutputFolder,
    ledger: Ledger,
    *,
    force: bool,
    retry: frozenset[JobState],
) -> int:
    """Bring the ledger in line with what is asked. Returns the number of this planning.

    :raises OutputError: the folder holds another run, or its ledger is not this one.
    """
    table_path = str(table.absolute())
    table_sha256 = _sha256(table)
    fingerprint = prepared.recipe.fingerprint()
    known = ledger.run(folder.run_id)
    if known is None and folder.planned and not force:
        raise OutputError(
            "the ledger does not know the run in this folder",
            value=str(folder.path),
            hint="--database with the ledger it was run with, or --force to make everything again",
        )
    if known is not None and not force:
        hint = "--out with another folder, or --force to go on here (earlier images move to superseded/)"
        if known["fingerprint"] != fingerprint:
            raise OutputError(
                "the folder holds a run of another workflow or other bindings, names or seed",
                value=str(folder.path),
                hint=hint,
            )
        if known["table_path"] != table_path and known["table_sha256"] != table_sha256:
            raise OutputError("the folder holds a run of another table", value=known["table_path"], hint=hint)
    generation = ledger.begin_run(folder.run_id, table_path, table_sha256, fingerprint)
    if retry:
        ledger.retry(folder.run_id, generation, retry)
        return generation
    problems = Problems()
    ledger.plan(folder.run_id, generation, prepared.plan.jobs(problems), whole=prepared.whole)
    problems.raise_if_any()
    folder.mark_planned()
    return generation


def adopt(
    prepared: Prepared, folder: OutputFolder, ledger: Ledger, generation: int
) -> dict[str, list[ClaimedJob]]:
    """Sort the attempts that an earlier process left open: to their servers, or back to pending."""
    ledger.adopt(folder.run_id, generation)
    adopted: dict[str, list[ClaimedJob]] = {client.url: [] for client in prepared.clients}
    clients = {client.url: client for client in prepared.clients}
    for attempt, wanted in ledger.open_attempts(folder.run_id):
        if not wanted:
            ledger.end_orphan(attempt.job.attempt_id, "its row changed or left the table")
            if attempt.server in clients:
                with suppress(ServerError):
                    clients[attempt.server].cancel(attempt.job.attempt_id)
        elif attempt.server in adopted:
            adopted[attempt.server].append(attempt.job)
        else:
            ledger.release(attempt.job, AttemptState.LOST, "its server takes no part in this run")
    return adopted


def make_missing_again(folder: OutputFolder, ledger: Ledger, generation: int) -> int:
    """Put done jobs whose images somebody removed, or the canvas replaced, back to pending. Returns how many."""
    files = ledger.files_in_place(folder.run_id, generation)
    gone = {job_id for job_id, file, size in files if not _is_there(folder.path / file, size)}
    ledger.make_again(gone)
    return len(gone)


def _is_there(path: Path, size: int) -> bool:
    """Whatever somebody did to an image that is the driver's; one of the canvas has a stamp of its own."""
    return path.is_file() and (path.stat().st_size == size or read_stamp(path) is None)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
