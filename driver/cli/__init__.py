"""The command line. Each command imports what it needs when it is called."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from ...errors import PromptmillError
from . import commands, views  # noqa: F401  (they register their commands)
from .app import app
from .output import Output

__all__ = ["app", "main"]


def main() -> None:
    """Entry point: runs a command and turns what went wrong into one message and an exit code."""
    import click

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
        sys.stderr.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except PromptmillError as error:
        Output(json="--json" in sys.argv).error(error)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("\ninterrupted; the same command goes on\n")
        sys.stderr.flush()
        os._exit(130)


def _terminate(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt
