"""The Typer application; `commands` and `views` hang their commands on it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import typer

from ...errors import PromptmillError
from .embedded import started
from .output import Output

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A table of prompts in, one verified, named image per row out, through ComfyUI.",
    epilog="Exit codes: 0 all done, 1 some jobs failed, 2 bad usage or input and nothing queued, "
    "3 no usable server, 130 interrupted (the same command goes on).",
)


def command(function: Callable[..., int]) -> Callable[..., None]:
    """
    Make a function that returns an exit code a command.

    An embedded server is started for it; what goes wrong becomes one message and its code.
    """

    @app.command()
    @wraps(function)
    def guarded(**options: Any) -> None:
        output = Output(json=options.get("json", False))
        try:
            with started(options.get("server", ())) as servers:
                code = function(**options | ({"server": servers} if servers else {}))
        except PromptmillError as error:
            output.error(error)
            code = error.exit_code
        except KeyboardInterrupt:
            output.talk("interrupted; the same command goes on")
            os._exit(130)
        raise typer.Exit(code)

    return guarded
