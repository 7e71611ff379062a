"""One attempt under way on one server, how patient a worker is with it, and what may become of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ...errors import PromptmillError
from ..comfy import ImageRef
from ..ledger import ClaimedJob


class Stuck(PromptmillError):
    """No progress within the time allowed."""

    code = "timeout"

    @classmethod
    def of(cls, flight: Flight, timeout: float) -> Stuck:
        """What is told of an attempt without progress for ``timeout`` seconds."""
        return cls(f"no progress for {timeout:g} s", value=f"row {flight.job.row_number}", hint="--timeout")


class Vanished(PromptmillError):
    """The server dropped the prompt without a trace; somebody may have cancelled it."""

    code = "vanished"


class ServerDied(PromptmillError):
    """The server went down while it worked on this row."""

    code = "server_died"


@dataclass(frozen=True)
class WorkerSettings:
    """How patient a worker is. Seconds."""

    in_flight: int = 2
    """Jobs on a server at a time."""
    timeout: float = 600.0
    """Without progress for so long, a prompt or a server is given up."""
    retries: int = 2
    """How often a failed job is tried again."""
    poll: float = 2.0
    """How often an attempt is looked up when no message hurries it."""
    handover: float = 10.0
    """After so long without an answer a server's jobs go to the others."""
    reaction: float = 15.0
    """How long a server may take to drop a prompt that was cancelled, or to begin one that waits."""

    @property
    def limit(self) -> int:
        """How many failed attempts end a job."""
        return self.retries + 1


@dataclass
class Flight:
    """An open attempt on this worker's server. Times are of the monotonic clock."""

    job: ClaimedJob
    client_id: str | None = None
    """Whose websocket hears of it; the server's memory is trusted while that one stays open."""
    adopted: bool = False
    """Its server may have lost its memory since it was sent: not to be known is no fault of the row."""
    suspect: bool = False
    """Its server was at it when it fell."""
    doubtful: bool = False
    started: bool = False
    collecting: bool = False
    hurry: bool = False
    """The server said that it ended while it was being looked up."""
    heard: bool = False
    """The server said that it ended."""
    outputs: tuple[ImageRef, ...] = ()
    """The images that the server told of on the way."""
    trouble: bool = False
    """The server told of an error or an interruption."""
    began: float | None = None
    sign: float = field(default_factory=time.monotonic)
    asked: float = field(default_factory=time.monotonic)
    unknown: float | None = None
    cancelled: float | None = None
