"""Encode Rows: some rows of a table as the conditionings of one batch."""

from __future__ import annotations

from itertools import islice
from typing import Any

from comfy_api.latest import io

from ..errors import TableError
from ..sampling import Encoder
from ..table import Job
from .sockets import (
    CATEGORY,
    EncodedSocket,
    EncodedValue,
    PromptTableValue,
    RowsSocket,
    RowsValue,
    TableSocket,
)
from .table_row import SIZE


class EncodeRows(io.ComfyNode):
    """See the module's docstring."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The face of the node."""
        return io.Schema(
            node_id="PromptmillEncodeRows",
            display_name="Encode Rows",
            category=CATEGORY,
            description="The prompts of some rows as one exact batch: connect Row Noise, Row Guider and an empty latent of "
            "`count` images with SamplerCustomAdvanced. 'Queue all rows' goes on from batch to batch.",
            search_aliases=["batch prompts", "编码行"],
            inputs=[
                io.Clip.Input("clip"),
                TableSocket.Input("table"),
                io.Int.Input(
                    "start",
                    default=1,
                    min=1,
                    max=2**31 - 1,
                    tooltip="The first image of the batch, counted from 1 over the chosen rows and their variants.",
                ),
                io.Int.Input(
                    "rows_per_batch", default=4, min=1, max=256, tooltip="The last batch may be smaller."
                ),
                io.Int.Input("width", default=1024, **SIZE, tooltip="Where the rows give none."),
                io.Int.Input("height", default=1024, **SIZE, tooltip="Where the rows give none."),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Where the rows give none."),
                io.Float.Input(
                    "cfg", default=4.0, min=0.0, max=100.0, step=0.1, tooltip="Where the rows give none."
                ),
            ],
            outputs=[
                RowsSocket.Output("rows", display_name="rows", tooltip="For Row Noise and Save Rows."),
                EncodedSocket.Output("encoded", display_name="encoded", tooltip="For Row Guider."),
                io.Int.Output("count", display_name="count", tooltip="The batch size of the latent."),
                io.Int.Output("width", display_name="width"),
                io.Int.Output("height", display_name="height"),
                io.Int.Output("steps", display_name="steps"),
                io.Float.Output("cfg", display_name="cfg"),
            ],
        )

    @classmethod
    def execute(
        cls, clip: Any, table: PromptTableValue, start: int, rows_per_batch: int, **defaults: float
    ) -> io.NodeOutput:
        """Encode each distinct text once."""
        jobs = tuple(islice(table.jobs, start - 1, start - 1 + rows_per_batch))
        if not jobs:
            raise TableError(
                "the table ends before this image", value=start, hint=f"the last one is {table.count}"
            )
        encoder = Encoder(clip)
        encoded = EncodedValue(
            [encoder(job.prompt) for job in jobs],
            [encoder(job.negative) for job in jobs],
            [job.seed for job in jobs],
        )
        common = [_common(jobs, name, defaults[name]) for name in ("width", "height", "steps", "cfg")]
        return io.NodeOutput(RowsValue(jobs, table.folder), encoded, len(jobs), *common)


def _common(jobs: tuple[Job, ...], name: str, default: float) -> float:
    """What all rows of a batch have in common."""
    own = (getattr(job.settings, name) for job in jobs)
    values = {default if value is None else value for value in own}
    if len(values) > 1:
        raise TableError(
            f"the rows of a batch need the same {name}",
            where=f"rows {jobs[0].row.number} to {jobs[-1].row.number}",
            value=", ".join(map(str, sorted(values))),
            hint="rows_per_batch 1, or Sample Table, which batches only rows that fit",
        )
    return values.pop()
