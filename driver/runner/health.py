"""Whether a server answers and works, and what becomes of its jobs when it does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from ...errors import ServerError
from ..comfy import ComfyClient, ServerGone
from .board import Board, RunEvent, ServerState
from .flight import Flight, Stuck, WorkerSettings
from .flights import Flights

Answer = TypeVar("Answer")

PROBE_SECONDS = (0.5, 1.0, 2.0, 5.0)
"""Waits between the probes of a server that does not answer."""
STRIKES = 3
"""Device errors or refusals running after which a server is left."""
FALLS = 5
"""Falls without a finished job in between after which a server is left."""


class Health:
    """Of one worker's server. Only the worker's thread calls it."""

    def __init__(
        self,
        client: ComfyClient,
        board: Board,
        flights: Flights,
        settings: WorkerSettings,
        collect: Callable[[Flight], None],
    ) -> None:
        """:param collect: looks an attempt up, when the server is back."""
        self._client = client
        self._board = board
        self._line = board.add_server(client.url)
        self._flights = flights
        self._settings = settings
        self._collect = collect
        self.sign = time.monotonic()
        """When the server last showed that it works."""
        self._down_since: float | None = None
        self._abandoned: list[str] = []
        self._falls = self._strikes = self._stuck_looks = 0

    @property
    def answers(self) -> bool:
        """Whether it did when it was asked last."""
        return self._down_since is None

    def has_worked(self) -> None:
        """A job was finished: what went wrong before counts no more."""
        self._falls = self._strikes = 0

    def strike(self, reason: str) -> None:
        """It refused or broke a job by no fault of the job's."""
        self._strikes += 1
        if self._strikes == STRIKES:
            self.leave(f"{STRIKES} times running {reason}")

    def fall(self, error: ServerGone) -> None:
        """It does not answer."""
        if self._down_since is not None or self._line.state is ServerState.LEFT:
            return
        self._down_since = time.monotonic()
        self._falls += 1
        self._flights.suspect_memory_loss()
        self._probes = iter(PROBE_SECONDS)
        self._next_probe = self._down_since
        self._board.set_server(self._client.url, ServerState.DOWN, error.message)
        if self._falls > max(FALLS, self._settings.limit):
            self.leave(f"it fell {self._falls} times without finishing a job")

    def probe(self) -> None:
        """Ask a server that fell whether it is back, now and then; its jobs go to the others meanwhile."""
        assert self._down_since is not None
        now = time.monotonic()
        if now < self._next_probe:
            return
        try:
            self._client.queue_remaining()
        except ServerError as error:
            self._next_probe = now + next(self._probes, PROBE_SECONDS[-1])
            away = now - self._down_since
            if away > self._settings.timeout:
                self.leave(f"no answer for {away:.0f} s: {error.message}")
            elif away > self._settings.handover and self._board.others_usable(self._client.url):
                self._abandoned += self._flights.hand_back("its server does not answer")
            return
        self._down_since = None
        self.sign = now
        self._board.set_server(self._client.url, ServerState.UP)
        while self._abandoned:
            self.ask(partial(self._client.cancel, self._abandoned.pop()))
        for flight in self._flights:
            flight.sign = now
            self._collect(flight)

    def watch(self) -> None:
        """Look for the signs of a server that answers but does not work."""
        if self._down_since is not None or not self._flights:
            return
        now = time.monotonic()
        for flight in self._flights.idle():
            if not flight.started:
                continue
            if flight.cancelled is not None:
                if now - flight.cancelled > self._settings.reaction:
                    self._flights.fail(flight, Stuck.of(flight, self._settings.timeout), killed_server=True)
                    self.leave("it does not react: a prompt neither goes on nor can be cancelled")
                    return
            elif now - flight.sign > self._settings.timeout:
                flight.cancelled = now
                self.ask(partial(self._client.cancel, flight.job.attempt_id))
        if any(flight.started or flight.collecting for flight in self._flights):
            self._stuck_looks = 0
        elif now - self.sign > self._settings.reaction:
            self._look_at_the_queue(now)

    def ask(self, request: Callable[[], Answer]) -> Answer | None:
        """Ask the server for something the run can do without."""
        try:
            return request()
        except ServerGone as error:
            self.fall(error)
        except ServerError as error:
            self._board.tell(RunEvent("note", error.message, server=self._client.url))
        return None

    def leave(self, reason: str) -> None:
        """Give the server no more jobs in this run."""
        self._board.set_server(self._client.url, ServerState.LEFT, reason)
        if self._down_since is None:
            self.cancel_all()
        self._flights.hand_back(reason)

    def cancel_all(self) -> None:
        """Cancel at the server what is not being collected."""
        for flight in self._flights.idle():
            self.ask(partial(self._client.cancel, flight.job.attempt_id))

    def _look_at_the_queue(self, now: float) -> None:
        """Prompts wait and none runs, twice running: the server's worker thread is dead."""
        self.sign = now
        state = self.ask(self._client.queue)
        stuck = state is not None and state.pending and not state.running
        self._stuck_looks = self._stuck_looks + 1 if stuck else 0
        if self._stuck_looks == 2:
            self.leave("its queue does not move: prompts wait and none runs")
