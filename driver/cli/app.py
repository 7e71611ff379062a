"""The Typer application; `commands` and `views` hang their commands on it."""

from __future__ import annotations

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A table of prompts in, one verified, named image per row out, through ComfyUI.",
    epilog="Exit codes: 0 all done, 1 some jobs failed, 2 bad usage or input and nothing queued, "
    "3 no usable server, 130 interrupted (the same command goes on).",
)
