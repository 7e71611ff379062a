"""The open attempts of one server, and how each of them ends: in the ledger, on the board, for the observer."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import PromptmillError
from ..ledger import AttemptState, ClaimedJob, JobState, Ledger
from .board import Board, RunEvent
from .flight import Flight, ServerDied


class Flights:
    """What one worker has in the air. Only its thread changes it."""

    def __init__(
        self, ledger: Ledger, board: Board, url: str, *, limit: int, adopted: list[ClaimedJob]
    ) -> None:
        self._ledger = ledger
        self._board = board
        self._line = board.add_server(url)
        self._limit = limit
        self._open = {job.attempt_id: Flight(job, adopted=True) for job in adopted}
        self._released: set[str] = set()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Flight]:
        return iter(list(self._open.values()))

    def __contains__(self, prompt_id: str) -> bool:
        """Whether an attempt is, or was, this worker's. The websocket's thread asks."""
        return prompt_id in self._open or prompt_id in self._released

    def get(self, prompt_id: str | None) -> Flight | None:
        """The open attempt of this id."""
        return self._open.get(prompt_id or "")

    def idle(self) -> list[Flight]:
        """Those that are not being collected at the moment."""
        return [flight for flight in self._open.values() if not flight.collecting]

    def begin(self, job: ClaimedJob, client_id: str | None) -> Flight:
        """A job was claimed for this server."""
        flight = self._open[job.attempt_id] = Flight(job, client_id=client_id)
        self._line.in_flight = len(self._open)
        self._board.moved(JobState.PENDING, JobState.SUBMITTED)
        self._line.model_key = job.model_key
        return flight

    def accept(self, flight: Flight, files: tuple[str, ...], seconds: float | None) -> None:
        """Its images are in place and recorded."""
        self._end(flight, JobState.DONE)
        self._line.done += 1
        self._tell("done", flight, files=files, seconds=seconds)

    def fail(self, flight: Flight, error: PromptmillError, *, killed_server: bool = False) -> None:
        """It counts against its job, which is tried again or given up."""
        state = self._ledger.fail(flight.job, error, limit=self._limit, killed_server=killed_server)
        self._end(flight, state)
        if state is not JobState.PENDING:
            self._line.failed += 1
        self._tell("retry" if state is JobState.PENDING else state.value, flight, message=error.message)

    def release(
        self, flight: Flight, how: AttemptState, reason: str, *, to: JobState = JobState.PENDING
    ) -> None:
        """It ends without blame; its job waits again, or is cancelled."""
        self._ledger.release(flight.job, how, reason, to=to)
        self._end(flight, to)
        self._released.add(flight.job.attempt_id)
        if to is JobState.CANCELLED:
            self._tell("cancelled", flight, message=reason)

    def hand_back(self, reason: str) -> list[str]:
        """Give up all that is not being collected; a suspect is blamed. Returns their prompt ids."""
        given = self.idle()
        for flight in given:
            if flight.suspect:
                self.fail(flight, ServerDied(reason), killed_server=True)
            else:
                self.release(flight, AttemptState.LOST, reason)
        return [flight.job.attempt_id for flight in given]

    def ended_late(self, prompt_id: str) -> None:
        """A released attempt ended on its server after all."""
        if prompt_id in self._released:
            self._released.discard(prompt_id)
            self._ledger.end_orphan(prompt_id, "it ended after its job had been given to another attempt")

    def suspect_memory_loss(self) -> None:
        """The server fell, hung up, or was not listened to: it may know nothing any more, and a row may be why."""
        if any(flight.suspect for flight in self):
            return
        for flight in self:
            flight.adopted = True
        # What it had begun, else what it had just been sent, else the oldest.
        at = max(self.idle(), key=lambda flight: (flight.started, flight.doubtful), default=None)
        if at is not None:
            at.suspect = True

    def _end(self, flight: Flight, state: JobState) -> None:
        del self._open[flight.job.attempt_id]
        self._line.in_flight = len(self._open)
        self._board.moved(JobState.SUBMITTED, state)

    def _tell(
        self,
        kind: str,
        flight: Flight,
        *,
        message: str = "",
        files: tuple[str, ...] = (),
        seconds: float | None = None,
    ) -> None:
        job = flight.job
        self._board.tell(
            RunEvent(kind, message, job.row_id, job.row_number, job.variant, self._line.url, files, seconds)
        )
