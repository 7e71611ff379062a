"""``--server embedded``: the engine, started for one command."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ServerError

if TYPE_CHECKING:
    from ..engine import Engine

EMBEDDED = "embedded"
MODELS = "PROMPTMILL_MODELS"
PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "safetensors",
    "scipy",
    "starlette",
    "uvicorn",
    "websockets",
)


def engine_class() -> type[Engine]:
    """
    Import the engine.

    :raises ServerError: its packages are not installed.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ServerError(
            f"the embedded engine is not installed: there is no {', '.join(missing)}",
            hint="install promptmill with its extra engine, see docs/engine.md",
        )
    from ..engine import Engine

    return Engine


@contextmanager
def started(servers: Sequence[str]) -> Iterator[list[str]]:
    """Give the servers' addresses; an ``embedded`` among them is started, and ends with the command."""
    if EMBEDDED not in servers:
        yield list(servers)
        return
    kind = engine_class()
    models = [Path(folder) for folder in os.environ.get(MODELS, "").split(os.pathsep) if folder]
    with (
        tempfile.TemporaryDirectory(prefix="promptmill-engine-", ignore_cleanup_errors=True) as base,
        kind(Path(base), models=models) as engine,
    ):
        yield [engine.url if server == EMBEDDED else server for server in servers]
