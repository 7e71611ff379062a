"""The main job: plan, resume, work, report."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...errors import OutputError, Problems, PromptmillError, ServerError
from ..ledger import AttemptState, ClaimedJob, JobState, Ledger
from ..output import OutputFolder, open_output
from ..recipe import write_resolved
from .board import Board, RunEvent
from .collect import Collector
from .flight import WorkerSettings
from .request import Prepared, Request, prepare
from .summary import report_on
from .worker import ServerWorker

HOUSEKEEPING_SECONDS = 0.1


class Observer:
    """Sees a run; every method may stay as it is."""

    def begin(self, board: Board) -> None:
        """The plan stands and work begins; ``board`` may be read at any time."""

    def event(self, event: RunEvent) -> None:
        """Something happened. Called from the workers' threads, one at a time."""

    def tick(self) -> None:
        """Called about ten times a second from the thread that called ``run``."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    out: Path
    counts: dict[JobState, int]
    """Jobs of this call's selection by state."""
    made: int
    """Jobs that became done in this call."""
    seconds: float
    interrupted: bool
    error: PromptmillError | None

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some failed, 3 no usable server, 130 interrupted."""
        if self.error is not None:
            return ServerError.exit_code if isinstance(self.error, ServerError) else 1
        if self.interrupted:
            return 130
        return (
            0 if all(not count for state, count in self.counts.items() if state is not JobState.DONE) else 1
        )


def default_out(table: Path) -> Path:
    """Where images go when nobody says: ``output/<table name>``."""
    return Path("output") / table.stem


def run(
    request: Request,
    *,
    out: Path | None = None,
    database: str | None = None,
    force: bool = False,
    settings: WorkerSettings | None = None,
    observer: Observer | None = None,
    retry: frozenset[JobState] = frozenset(),
) -> RunResult:
    """Make one verified, named image set per row and variant; the same call resumes.

    KeyboardInterrupt stops it cleanly: what this run queued is cancelled, and a later call goes on. A second
    one ends at once.

    :param out: the output folder; default ``output/<table name>``.
    :param database: the ledger's URL; default ``ledger.sqlite`` in the output folder.
    :param force: go on in a folder of another run, or with other files; nothing is overwritten.
    :param retry: try the recorded jobs in these states again, and no others.
    :raises PromptmillError: nothing was queued; see its ``exit_code``.
    """
    observer = observer or Observer()
    prepared = prepare(request, lambda message: observer.event(RunEvent("note", message)))
    with open_output(out or default_out(request.table), database=database, force=force) as folder:
        ledger = Ledger(folder.ledger_url)
        try:
            return _run(
                prepared, request, folder, ledger, settings or WorkerSettings(), observer, force, retry
            )
        finally:
            ledger.close()


def _run(
    prepared: Prepared,
    request: Request,
    folder: OutputFolder,
    ledger: Ledger,
    settings: WorkerSettings,
    observer: Observer,
    force: bool,
    retry: frozenset[JobState],
) -> RunResult:
    began = time.monotonic()
    generation = _record_plan(prepared, request, folder, ledger, force, retry)
    folder.mark_planned()
    if gone := _missing_images(folder, ledger, generation):
        ledger.make_again(gone)
        observer.event(
            RunEvent("note", f"images of {len(gone)} jobs are gone from the folder and are made again")
        )
    plan = prepared.plan
    write_resolved(folder.path, prepared.recipe, plan.automatic())
    collector = Collector(
        folder.path,
        folder.run_id,
        ledger,
        plan.graph,
        prepared.recipe,
        counted=plan.counted,
        resumed=ledger.has_images(folder.run_id),
        changed=ledger.changed_rows(folder.run_id),
    )
    ledger.adopt(folder.run_id, generation)
    adopted = _adopt(prepared, folder, ledger)
    counts = ledger.counts(folder.run_id, generation)
    done_before = counts[JobState.DONE]
    board = Board(counts, observer.event)
    stop = threading.Event()
    interrupted = False
    pool = ThreadPoolExecutor(max_workers=2 + 2 * len(prepared.clients), thread_name_prefix="collect")
    try:
        workers = [
            ServerWorker(
                client,
                run_id=folder.run_id,
                generation=generation,
                ledger=ledger,
                graph=plan.graph,
                collector=collector,
                on_cancel=prepared.recipe.on_cancel,
                settings=settings,
                board=board,
                pool=pool,
                stop=stop,
                adopted=adopted[client.url],
            )
            for client in prepared.clients
        ]
        observer.begin(board)
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            try:
                time.sleep(HOUSEKEEPING_SECONDS)
                observer.tick()
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                stop.set()
                observer.event(
                    RunEvent("note", "stopping: what is queued is cancelled; Ctrl-C again to end at once")
                )
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    error = board.fatal
    if error is None and not interrupted and board.remaining():
        left = "; ".join(f"{line.url}: {line.reason}" for line in board.servers.values())
        error = ServerError(
            f"no usable server is left, {board.remaining()} jobs wait",
            value=left,
            hint="mend the server, then type the same command again: it goes on",
        )
    counts = ledger.counts(folder.run_id, generation)
    try:
        report_on(ledger, folder)
    except PromptmillError as trouble:
        error = error or trouble
    return RunResult(
        folder.path, counts, counts[JobState.DONE] - done_before, time.monotonic() - began, interrupted, error
    )


def _record_plan(
    prepared: Prepared,
    request: Request,
    folder: OutputFolder,
    ledger: Ledger,
    force: bool,
    retry: frozenset[JobState],
) -> int:
    table_path = str(request.table.absolute())
    table_sha256 = _sha256(request.table)
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
    return generation


def _adopt(prepared: Prepared, folder: OutputFolder, ledger: Ledger) -> dict[str, list[ClaimedJob]]:
    """Sort the attempts that an earlier process left open: to their servers, or back to pending."""
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


def _missing_images(folder: OutputFolder, ledger: Ledger, generation: int) -> list[int]:
    """Done jobs of this planning whose images somebody removed."""
    files = ledger.files_in_place(folder.run_id, generation)
    return sorted({job_id for job_id, file in files if not (folder.path / file).is_file()})


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
