"""Table Column: all cells of a column, as a list for nodes of other packs and of core."""

from __future__ import annotations

from comfy_api.latest import io

from ..errors import TableError
from ..table import Job, Table
from .sockets import CATEGORY, PromptTableValue, RowsSocket, RowsValue, TableSocket

IN_EFFECT = ("prompt", "negative", "seed", "file", "id")
"""Columns whose value in effect is given: filled templates, derived seeds."""


class TableColumn(io.ComfyNode):
    """See the module's docstring."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The face of the node."""
        return io.Schema(
            node_id="PromptmillTableColumn",
            display_name="Table Column",
            category=CATEGORY,
            description="A column of a prompt table as a list: the nodes behind it run once for each row. ComfyUI then holds "
            "all results in memory until the last row is through; for many rows use Table Row or Sample Table.",
            search_aliases=["csv column", "prompt list", "表格列"],
            inputs=[
                TableSocket.Input("table"),
                io.String.Input(
                    "column",
                    default="prompt",
                    tooltip="A column of the table; also prompt, negative, seed, file and id as they are in effect.",
                ),
            ],
            outputs=[
                io.String.Output("values", display_name="values", is_output_list=True),
                RowsSocket.Output("rows", display_name="rows", is_output_list=True),
            ],
        )

    @classmethod
    def execute(cls, table: PromptTableValue, column: str) -> io.NodeOutput:
        """The values and their rows, in the order of the table."""
        jobs = list(table.jobs)
        name = _column(table.jobs.table, column.strip())
        return io.NodeOutput(
            [_value(job, name) for job in jobs], [RowsValue((job,), table.folder) for job in jobs]
        )


def _column(table: Table, name: str) -> str:
    if name in IN_EFFECT or name in table.columns:
        return name
    if name in table.known:
        return table.known[name]
    raise TableError(
        "the table has no such column",
        where=table.path.name,
        value=name,
        hint=f"one of: {', '.join(dict.fromkeys([*table.columns, *IN_EFFECT]))}",
    )


def _value(job: Job, name: str) -> str:
    if name in IN_EFFECT:
        return job.row.id if name == "id" else str(getattr(job, name))
    return job.row.fields[name]
