"""What the threads of a run know of each other, and what is shown of it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from ...errors import PromptmillError
from ..ledger.records import JobState

RATE_WINDOW = 300.0


class ServerState(str, Enum):
    """Whether a server gets jobs."""

    UP = "up"
    """It answers and gets jobs."""
    DOWN = "down"
    """It does not answer; it is asked again and again."""
    LEFT = "left"
    """It gets no more jobs in this run; the reason is beside it."""


@dataclass(frozen=True, slots=True)
class RunEvent:
    """Something worth a line: a job's end, a retry, a server's change, a remark."""

    kind: str
    """done, retry, failed, quarantined, cancelled, server or note."""
    message: str = ""
    id: str = ""
    row: int | None = None
    variant: int | None = None
    server: str = ""
    files: tuple[str, ...] = ()
    seconds: float | None = None


@dataclass
class ServerLine:
    """One server's line in the live table."""

    url: str
    state: ServerState = ServerState.UP
    reason: str = ""
    in_flight: int = 0
    done: int = 0
    failed: int = 0
    model_key: str | None = None
    progress: str = ""


@dataclass
class Board:
    """Counters and server states of one run. Every method may be called from any thread."""

    counts: dict[JobState, int]
    notify: Callable[[RunEvent], None]
    servers: dict[str, ServerLine] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    fatal: PromptmillError | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _ends: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def add_server(self, url: str) -> ServerLine:
        """A line for a server that takes part."""
        with self._lock:
            return self.servers.setdefault(url, ServerLine(url))

    def remaining(self) -> int:
        """Selected jobs that are not in a terminal state."""
        with self._lock:
            return self.counts[JobState.PENDING] + self.counts[JobState.SUBMITTED]

    def moved(self, before: JobState, after: JobState) -> None:
        """A job went from one state to another."""
        with self._lock:
            self.counts[before] -= 1
            self.counts[after] += 1
            if after is JobState.DONE:
                self._ends.append(time.monotonic())

    def tell(self, event: RunEvent) -> None:
        """Pass an event on; one at a time."""
        with self._lock:
            self.notify(event)

    def stop_for(self, error: PromptmillError) -> None:
        """End the whole run with this error; the first one counts."""
        with self._lock:
            self.fatal = self.fatal or error

    def set_server(self, url: str, state: ServerState, reason: str = "") -> None:
        """A server changed; say so."""
        with self._lock:
            line = self.servers[url]
            line.state, line.reason, line.progress = state, reason, ""
            self.notify(
                RunEvent("server", message=f"{state.value}: {reason}" if reason else state.value, server=url)
            )

    def others_usable(self, url: str) -> bool:
        """Whether some other server is up."""
        with self._lock:
            return any(line.state is ServerState.UP for line in self.servers.values() if line.url != url)

    def models_elsewhere(self, url: str) -> set[str]:
        """The model keys that the other servers have in work."""
        with self._lock:
            return {
                line.model_key
                for line in self.servers.values()
                if line.url != url and line.state is ServerState.UP and line.model_key is not None
            }

    def rate(self) -> float:
        """Jobs done per minute over the last minutes."""
        with self._lock:
            now = time.monotonic()
            recent = [end for end in self._ends if now - end < RATE_WINDOW]
            if len(recent) < 2:
                return 60.0 * len(recent) / max(now - self.started, 1.0)
            return 60.0 * (len(recent) - 1) / max(now - recent[0], 1e-3)

    def seconds_left(self) -> float | None:
        """The estimate at the present rate; None before the first job is done."""
        rate = self.rate()
        return 60.0 * self.remaining() / rate if rate else None
