"""The command line. Each command imports what it needs when it is called."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

from . import cache, commands, quantize, views  # noqa: F401  (they register their commands)
from .app import app

__all__ = ["app", "main"]


def main() -> None:
    """Entry point."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    app()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Interrupt, but never inside an import: there Python can lose the exception and keep the import lock."""
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            threading.Timer(0.05, signal.raise_signal, [number]).start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt
