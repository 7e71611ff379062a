"""One server's thread: keeps the server full, notices what ends, and judges how it ended."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Executor
from dataclasses import dataclass

from ...errors import PromptmillError, ServerError
from ...table import KEYWORD
from ..comfy import (
    Ambiguous,
    ComfyClient,
    Event,
    EventKind,
    EventStream,
    NotSent,
    Progress,
    Rejected,
    ServerGone,
)
from ..ledger import AttemptState, ClaimedJob, JobState, Ledger
from ..workflow import Graph
from .board import Board, ServerState
from .collect import Collector, DiskTrouble, End, ExecutionFailed, Outcome, Told
from .flight import Flight, ServerDied, Stuck, Vanished, WorkerSettings
from .flights import Flights
from .health import Health

TICK_SECONDS = 0.25
CONNECT_SECONDS = 2.0
"""How long the first prompt waits for the websocket that would tell of it."""
SILENCES = 3
"""Ends running that only polling saw after which the websocket is opened anew."""


@dataclass(frozen=True)
class _Collected:
    flight: Flight
    outcome: Outcome | None
    error: Exception | None


class ServerWorker(threading.Thread):
    """Runs jobs on one server until none remain, the run is stopped, or the server is of no more use."""

    def __init__(
        self,
        client: ComfyClient,
        *,
        run_id: str,
        generation: int,
        ledger: Ledger,
        graph: Graph,
        collector: Collector,
        on_cancel: str,
        settings: WorkerSettings,
        board: Board,
        pool: Executor,
        stop: threading.Event,
        adopted: list[ClaimedJob],
    ) -> None:
        super().__init__(name=f"worker of {client.url}", daemon=True)
        self._client = client
        self._run_id = run_id
        self._generation = generation
        self._ledger = ledger
        self._graph = graph
        self._collector = collector
        self._on_cancel = on_cancel
        self._settings = settings
        self._board = board
        self._line = board.add_server(client.url)
        self._pool = pool
        self._stop_asked = stop
        self._inbox: queue.SimpleQueue[Event | _Collected] = queue.SimpleQueue()
        self._flights = Flights(ledger, board, client.url, limit=settings.limit, adopted=adopted)
        self._stream = EventStream(
            client.url, self._inbox.put, ours=self._flights.__contains__, login=client.login
        )
        self._health = Health(client, board, self._flights, settings, self._collect)
        self._unheard = 0

    # The loop

    def run(self) -> None:
        """Work until there is nothing left to do here."""
        self._stream.start()
        self._stream.wait(CONNECT_SECONDS)
        try:
            for flight in self._flights:
                self._collect(flight)
            while self._in_use():
                try:
                    self._turn()
                except ServerError as error:
                    self._health.leave(error.message)
            self._take_back()
        except PromptmillError as error:
            self._board.stop_for(error)
        except Exception as error:
            self._board.stop_for(PromptmillError(f"{type(error).__name__}: {error}"))
            raise
        finally:
            self._stream.stop()

    def _turn(self) -> None:
        if self._health.answers:
            self._fill()
        else:
            self._health.probe()
        self._listen()
        self._poll()
        self._health.watch()

    def _in_use(self) -> bool:
        if self._stop_asked.is_set() or self._board.fatal:
            return False
        return self._line.state is not ServerState.LEFT and self._board.remaining() > 0

    def _fill(self) -> None:
        """Keep ``in_flight`` jobs on the server, while not too many of its images are still on their way."""
        while self._in_use() and self._health.answers:
            on_server = sum(not flight.heard for flight in self._flights)
            if on_server >= self._settings.in_flight or len(self._flights) >= 4 * self._settings.in_flight:
                return
            job = self._ledger.claim(
                self._run_id,
                self._generation,
                self._client.url,
                prefer=self._line.model_key,
                avoid=self._board.models_elsewhere(self._client.url),
            )
            if job is None:
                return
            self._submit(job)

    def _submit(self, job: ClaimedJob) -> None:
        flight = self._flights.begin(job, self._stream.client_id)
        api, workflow = self._graph.inject(self._collector.values(job), job.prefix)
        try:
            extra = {"workflow": workflow, KEYWORD: job.stamp}
            self._client.submit(job.attempt_id, api, client_id=flight.client_id, extra=extra)
        except Rejected as error:
            self._flights.fail(flight, error)
            if error.server_changed:
                self._health.strike(f"it has lost a node or a model: {error.message}")
        except NotSent as error:
            self._flights.release(flight, AttemptState.LOST, error.message)
            self._health.fall(error)
        except Ambiguous:
            flight.doubtful = True
        except ServerError as error:
            self._flights.release(flight, AttemptState.LOST, error.message)
            self._health.leave(error.message)

    def _listen(self) -> None:
        """Handle what has arrived; wait a tick when nothing has."""
        timeout = TICK_SECONDS
        while True:
            try:
                item = self._inbox.get(timeout=timeout) if timeout else self._inbox.get_nowait()
            except queue.Empty:
                return
            timeout = 0.0
            if isinstance(item, _Collected):
                self._judge(item)
            else:
                self._hear(item)

    def _hear(self, event: Event) -> None:
        now = self._health.sign = time.monotonic()
        if event.kind is EventKind.DISCONNECTED:
            self._flights.suspect_memory_loss()
        if event.kind in (EventKind.CONNECTED, EventKind.DISCONNECTED):
            for flight in self._flights:
                flight.asked = now - self._settings.poll
        found = self._flights.get(event.prompt_id)
        if found is None:
            if event.kind is EventKind.FINISHED and event.prompt_id:
                self._flights.ended_late(event.prompt_id)
            return
        found.sign = now
        if not found.started:
            found.started, found.began = True, now
        if isinstance(event.data, Progress):
            self._line.progress = f"row {found.job.row_number} {event.data.value:g}/{event.data.max:g}"
        if event.kind is EventKind.EXECUTED and isinstance(event.data, tuple):
            found.outputs += event.data
        elif event.kind in (EventKind.FAILED, EventKind.INTERRUPTED):
            found.trouble = True
        elif event.kind is EventKind.FINISHED:
            self._unheard = 0
            found.heard = True
            self._collect(found)

    def _poll(self) -> None:
        now = time.monotonic()
        for flight in self._flights.idle():
            patience = self._settings.poll if self._listens_to(flight) else TICK_SECONDS
            if now - flight.asked >= patience and self._health.answers:
                self._collect(flight)

    def _listens_to(self, flight: Flight) -> bool:
        """Whether the websocket that hears of the flight has been open all the time."""
        return flight.client_id is not None and flight.client_id == self._stream.client_id

    # Bringing home

    def _collect(self, flight: Flight) -> None:
        if flight.collecting:
            flight.hurry = True
            return
        flight.collecting = True
        flight.asked = time.monotonic()
        self._pool.submit(self._collect_in_pool, flight)

    def _collect_in_pool(self, flight: Flight) -> None:
        told = Told(flight.outputs, flight.asked - flight.began) if flight.heard and flight.began else None
        if flight.trouble:
            told = None
        try:
            self._inbox.put(_Collected(flight, self._collector.collect(self._client, flight.job, told), None))
        except Exception as error:
            self._inbox.put(_Collected(flight, None, error))

    def _judge(self, item: _Collected) -> None:
        flight, outcome = item.flight, item.outcome
        flight.collecting = False
        flight.asked = time.monotonic()
        if isinstance(item.error, ServerGone):
            self._health.fall(item.error)
        elif isinstance(item.error, ServerError):
            self._flights.fail(flight, item.error)
        elif isinstance(item.error, DiskTrouble):
            self._board.stop_for(item.error)
            self._flights.release(flight, AttemptState.LOST, item.error.message)
        elif item.error is not None:
            raise item.error
        elif outcome is not None:
            judges = {
                End.ACCEPTED: self._accepted,
                End.NOT_YET: self._not_yet,
                End.REFUSED: self._refused,
                End.CANCELLED: self._cancelled,
                End.UNKNOWN: self._unknown,
            }
            if outcome.end in (End.ACCEPTED, End.REFUSED) and not flight.heard:
                self._mind_the_silence()
            judges[outcome.end](flight, outcome)

    def _mind_the_silence(self) -> None:
        """Prompts end and the websocket, though open, does not say so: open another."""
        self._unheard += 1
        if self._unheard == SILENCES:
            self._unheard = 0
            self._stream.reconnect()

    def _accepted(self, flight: Flight, outcome: Outcome) -> None:
        self._health.has_worked()
        self._flights.accept(flight, outcome.files, outcome.seconds)

    def _not_yet(self, flight: Flight, outcome: Outcome) -> None:
        flight.unknown = None
        flight.adopted = flight.suspect = flight.doubtful = False
        if flight.hurry:
            flight.hurry = False
            self._collect(flight)
        if outcome.running and not flight.started:
            flight.started = True
            flight.sign = self._health.sign = time.monotonic()

    def _refused(self, flight: Flight, outcome: Outcome) -> None:
        error = outcome.error
        assert error is not None
        kind = error.kind if isinstance(error, ExecutionFailed) else "other"
        self._flights.fail(flight, error)
        if kind == "out_of_memory":
            self._health.ask(self._client.free)
        if kind == "cuda":
            self._health.strike(f"device errors: {error.message}")

    def _cancelled(self, flight: Flight, _outcome: Outcome) -> None:
        if flight.cancelled is not None:
            self._flights.fail(flight, Stuck.of(flight, self._settings.timeout))
        elif self._on_cancel == "mark":
            self._flights.release(
                flight, AttemptState.CANCELLED, "cancelled at the server", to=JobState.CANCELLED
            )
        else:
            self._flights.fail(flight, Vanished("somebody interrupted the prompt at the server"))

    def _unknown(self, flight: Flight, outcome: Outcome) -> None:
        now = time.monotonic()
        if not self._listens_to(flight) and not flight.adopted:
            self._flights.suspect_memory_loss()
        if flight.suspect:
            self._flights.fail(flight, ServerDied(), killed_server=True)
        elif flight.adopted:
            self._flights.release(flight, AttemptState.LOST, "the server does not know it any more")
        elif flight.unknown is None:
            flight.unknown = now
            flight.asked = now - self._settings.poll / 2
        elif flight.doubtful:
            self._flights.release(
                flight, AttemptState.LOST, "the answer to its submission was lost, and it did not arrive"
            )
            self._health.strike("it hangs up when it is sent a prompt")
        else:
            self._cancelled(flight, outcome)

    # The end

    def _take_back(self) -> None:
        """The end: what is still on the server is cancelled there and waits again in the ledger."""
        self._wait_for_collections()
        if self._line.state is ServerState.LEFT:
            self._flights.hand_back(self._line.reason)
        elif self._health.answers:
            self._health.cancel_all()
            for flight in self._flights:
                self._flights.release(flight, AttemptState.CANCELLED, "the run was stopped")

    def _wait_for_collections(self) -> None:
        while any(flight.collecting for flight in self._flights):
            item = self._inbox.get()
            if isinstance(item, _Collected):
                self._judge(item)
