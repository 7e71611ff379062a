"""Runs a table through servers until every job is in one terminal state."""

from .board import Board, RunEvent, ServerState
from .flight import WorkerSettings
from .main import Observer, RunResult, default_out, run
from .request import DEFAULT_SERVER, Prepared, Request, prepare

__all__ = [
    "DEFAULT_SERVER",
    "Board",
    "Observer",
    "Prepared",
    "Request",
    "RunEvent",
    "RunResult",
    "ServerState",
    "WorkerSettings",
    "default_out",
    "prepare",
    "run",
]
