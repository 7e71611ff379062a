"""The driver: reads a table, injects each row into a workflow, and runs it on ComfyUI servers.

``run``, ``prepare``, ``Request`` and their kin are imported on first use, so that the command line starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runner import Observer, Prepared, Request, RunEvent, RunResult, WorkerSettings, prepare, run

__all__ = ["Observer", "Prepared", "Request", "RunEvent", "RunResult", "WorkerSettings", "prepare", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import runner

    return getattr(runner, name)
