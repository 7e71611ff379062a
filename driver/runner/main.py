"""The main job: plan, resume, work, report."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ...errors import PromptmillError, ServerError
from ..ledger import JobState, Ledger
from ..output import OutputFolder, open_output
from ..recipe import write_resolved
from .board import Board, RunEvent
from .collect import Collector
from .flight import WorkerSettings
from .request import Prepared, Request, prepare
from .resume import adopt, make_missing_again, record_plan
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
            result = _run(
                prepared, request, folder, ledger, settings or WorkerSettings(), observer, force, retry
            )
        except PromptmillError:
            ledger.close()
            raise
        ledger.close()
        return result


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
    generation = record_plan(prepared, request.table, folder, ledger, force=force, retry=retry)
    if gone := make_missing_again(folder, ledger, generation):
        observer.event(
            RunEvent(
                "note", f"images of {gone} jobs are gone from the folder, or were replaced on the canvas"
            )
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
    if taken := collector.take_over(generation):
        observer.event(RunEvent("note", f"{taken} images in the folder were made on the canvas and are kept"))
    adopted = adopt(prepared, folder, ledger, generation)
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
        folder.path,
        counts,
        made=counts[JobState.DONE] - done_before,
        seconds=time.monotonic() - began,
        interrupted=interrupted and board.remaining() > 0,
        error=error,
    )
