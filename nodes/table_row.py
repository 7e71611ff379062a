"""Table Row: one row, for an ordinary graph."""

from __future__ import annotations

from comfy_api.latest import io

from .sockets import CATEGORY, PromptTableValue, RowsSocket, RowsValue, TableSocket

SIZE = {"min": 16, "max": 16384, "step": 8}


class TableRow(io.ComfyNode):
    """See the module's docstring."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The face of the node."""
        blank = "Where the row gives none."
        return io.Schema(
            node_id="PromptmillTableRow",
            display_name="Table Row",
            category=CATEGORY,
            description="One row of a prompt table. 'Queue all rows' queues the graph once for each row.",
            search_aliases=["queue all rows", "csv row", "表格行"],
            inputs=[
                TableSocket.Input("table"),
                io.Int.Input(
                    "row", default=1, min=1, max=2**31 - 1, tooltip="Which row of the table, counted from 1."
                ),
                io.Int.Input("variant", default=1, min=1, max=1000, tooltip="Which image of this row."),
                io.Int.Input("width", default=1024, **SIZE, advanced=True, tooltip=blank),
                io.Int.Input("height", default=1024, **SIZE, advanced=True, tooltip=blank),
                io.Int.Input("steps", default=20, min=1, max=10000, advanced=True, tooltip=blank),
                io.Float.Input(
                    "cfg", default=4.0, min=0.0, max=100.0, step=0.1, advanced=True, tooltip=blank
                ),
            ],
            outputs=[
                RowsSocket.Output("rows", display_name="row", tooltip="For Save Rows and Skip If Done."),
                io.String.Output("prompt", display_name="prompt"),
                io.String.Output("negative", display_name="negative"),
                io.Int.Output("seed", display_name="seed"),
                io.Int.Output("width", display_name="width"),
                io.Int.Output("height", display_name="height"),
                io.Int.Output("steps", display_name="steps"),
                io.Float.Output("cfg", display_name="cfg"),
                io.String.Output("id", display_name="id"),
                io.String.Output(
                    "file",
                    display_name="file",
                    tooltip="Folder and name without .png: a prefix for other savers.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, table: PromptTableValue, row: int, variant: int, width: int, height: int, steps: int, cfg: float
    ) -> io.NodeOutput:
        """The row's values; past the last row is an error."""
        job = table.jobs.find(row, variant)
        own = job.settings
        return io.NodeOutput(
            RowsValue((job,), table.folder),
            job.prompt,
            job.negative,
            job.seed,
            own.width or width,
            own.height or height,
            own.steps or steps,
            cfg if own.cfg is None else own.cfg,
            job.row.id,
            f"{table.folder}/{job.file.removesuffix('.png')}",
        )
