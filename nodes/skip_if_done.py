"""Skip If Done: nothing upstream and downstream of it runs where the row's file is there."""

from __future__ import annotations

from glob import escape
from pathlib import Path
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..table import Job, read_stamp
from .folders import output_folder
from .sockets import CATEGORY, RowsSocket, RowsValue


class SkipIfDone(io.ComfyNode):
    """See the module's docstring."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The face of the node."""
        kind = io.MatchType.Template("value")
        return io.Schema(
            node_id="PromptmillSkipIfDone",
            display_name="Skip If Done",
            category=CATEGORY,
            description="Passes its value on, but not where the images of all its rows are done: then nothing upstream of it "
            "runs, and nothing behind it. Save Rows does this by itself; use this one before other savers, and give them "
            "the file of Table Row as their file name prefix.",
            search_aliases=["skip existing", "resume", "跳过"],
            inputs=[
                io.MatchType.Input("value", kind, lazy=True),
                RowsSocket.Input("rows"),
            ],
            outputs=[io.MatchType.Output(kind, "value", display_name="value")],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> float:
        """Never equal to the last one: the files on the disk decide."""
        return float("nan")

    @classmethod
    def check_lazy_status(cls, rows: RowsValue, value: Any = None) -> list[str]:
        """Ask for the value only where it is needed."""
        return [] if _all_done(rows) else ["value"]

    @classmethod
    def execute(cls, rows: RowsValue, value: Any = None) -> io.NodeOutput:
        """The value, or the word that what is behind does not run."""
        return io.NodeOutput(ExecutionBlocker(None) if _all_done(rows) else value)


def _all_done(rows: RowsValue) -> bool:
    out = output_folder(rows.folder)
    return all(_is_there(job, out / job.file) for job in rows.jobs)


def _is_there(job: Job, path: Path) -> bool:
    """Under its own name, or with core's counter behind it: ``mug_00001_.png``. Our own images tell whose they are."""
    if (found := read_stamp(path)) is not None:
        return bool(found.get("digest") == job.digest)
    return path.is_file() or any(path.parent.glob(f"{escape(path.stem)}_[0-9]*_.*"))
