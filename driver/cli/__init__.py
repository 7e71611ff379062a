"""The command line. Each command imports what it needs when it is called."""

from __future__ import annotations

import signal
import sys
from typing import Any

from . import commands, views  # noqa: F401  (they register their commands)
from .app import app

__all__ = ["app", "main"]


def main() -> None:
    """Entry point."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, _terminate)
    app()


def _terminate(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt
