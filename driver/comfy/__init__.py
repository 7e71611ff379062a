"""The client of ComfyUI's HTTP + websocket protocol: polling decides, the websocket only makes it quicker."""

from .answers import ExecutionError, ImageRef, JobState, Lookup, QueueState
from .client import ComfyClient
from .errors import Ambiguous, ImageMissing, NotSent, Rejected, ServerGone, ServerTrouble
from .events import Event, EventKind, EventStream, Progress

__all__ = [
    "Ambiguous",
    "ComfyClient",
    "Event",
    "EventKind",
    "EventStream",
    "ExecutionError",
    "ImageMissing",
    "ImageRef",
    "JobState",
    "Lookup",
    "NotSent",
    "Progress",
    "QueueState",
    "Rejected",
    "ServerGone",
    "ServerTrouble",
]
