"""The one route of this pack: a look at a table, for the canvas."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from itertools import islice
from typing import Any

from aiohttp import web
from server import PromptServer

from ..errors import PromptmillError
from ..table import is_done
from .folders import output_folder
from .prompt_table import read_table

SHOWN_ROWS = 20
INPUTS = inspect.signature(read_table).parameters
KINDS: dict[str, Callable[[Any], Any]] = {"str": str, "int": int}


def add_routes() -> None:
    """
    ``POST /promptmill/table``: the inputs of a Prompt Table as JSON in; out what the canvas shows of it, or an error.

    A wrong table is a good answer, with ``error`` and ``text``: a browser would tell of any other status.
    """

    @PromptServer.instance.routes.post("/promptmill/table")
    async def look_at_table(request: web.Request) -> web.Response:
        try:
            inputs = await request.json()
            known = {name: KINDS[kind.annotation](inputs.pop(name)) for name, kind in INPUTS.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return web.json_response({"text": f"expected an object of {', '.join(INPUTS)}"}, status=400)
        return web.Response(text=await asyncio.to_thread(answer, known), content_type="application/json")


def answer(inputs: dict[str, Any]) -> str:
    """``look`` as JSON, or the error."""
    try:
        return json.dumps(look(inputs))
    except PromptmillError as error:
        return json.dumps({**error.as_dict(), "text": str(error)})


def look(inputs: dict[str, Any]) -> dict[str, Any]:
    """
    What the canvas shows: ``columns``, ``notes`` (what was detected), ``first`` rows (lists of cells), ``count`` and
    ``jobs``: row, variant, id, file, and whether it is done; ``folder`` below ComfyUI's output folder.

    :raises PromptmillError: as in the node.
    """
    value = read_table(**inputs)
    table = value.jobs.table
    out = output_folder(value.folder)
    return {
        "columns": list(table.columns),
        "encoding": table.encoding,
        "notes": table.notes,
        "first": [list(row.fields.values()) for row in islice(table.rows(), SHOWN_ROWS)],
        "count": value.count,
        "folder": value.folder,
        "jobs": [
            {
                "row": job.row.number,
                "variant": job.variant,
                "id": job.row.id,
                "file": job.file,
                "done": is_done(job, out),
            }
            for job in value.jobs
        ],
    }
