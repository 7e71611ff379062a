"""The command that looks after converted checkpoints."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from ...errors import CheckpointError
from .app import command
from .options import JsonOption
from .output import Output

PLACES = (Path("models"), Path.home() / "comfy" / "ComfyUI" / "models")
"""Models of the ComfyUI in whose folder one stands, and of the one that comfy-cli installs."""


@command
def cache(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            envvar="PROMPTMILL_CACHE",
            help="ComfyUI's models/promptmill_cache, when it is not found.",
        ),
    ] = None,
    remove: Annotated[
        list[str], typer.Option("--remove", metavar="NAME", help="Remove a file; repeat.")
    ] = [],  # noqa: B006
    clear: Annotated[bool, typer.Option("--clear", help="Remove all files.")] = False,
    limit: Annotated[
        float | None,
        typer.Option(
            "--limit", min=0, metavar="GB", help="Remove what was used the longest ago, down to this size."
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """List the checkpoints that ComfyUI's loaders converted and keep; or remove some."""
    from ...quantization.cache import Cache, Entry

    output = Output(json=json)
    if folder and not folder.is_dir():
        raise CheckpointError("there is no such folder", where="--folder", value=str(folder))
    if clear and limit is not None:
        raise CheckpointError("--clear removes all: --limit has nothing to leave", hint="give one of both")
    found = Cache(folder or _found())
    removed = [found.remove(name) for name in remove]
    if clear or limit is not None:
        removed += found.shrink(-1 if clear else limit or 0)
    files = found.files()
    for file in removed or files:
        used = (
            "removed" if removed else f"{datetime.fromtimestamp(found.last_used(file.name)):%Y-%m-%d %H:%M}"
        )
        source, format = (file.source, file.format) if isinstance(file, Entry) else ("", "part")
        output.result(
            f"{file.size / 1e9:6.2f} GB  {format:5}  {used}  {file.name}  "
            + (f"from {source}" if source else "not done: the same choice finishes it, where none runs"),
            {"name": file.name, "source": source, "format": format, "size": file.size, "used": used},
        )
    size = sum(file.size for file in files) / 1e9
    output.talk(f"{found.folder}: {len(files)} files, {size:.2f} of {found.limit:g} GB")
    return 0


def _found() -> Path:
    for place in PLACES:
        if (place / "promptmill_cache").is_dir():
            return place / "promptmill_cache"
    raise CheckpointError(
        "no cache of converted checkpoints is found here",
        hint="--folder .../ComfyUI/models/promptmill_cache; a loader node makes it at its first conversion",
    )
