"""A workflow with this project's own nodes: the driver gives its Prompt Tables one row at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import WorkflowError
from .flow import Flow
from .schema import Target, is_link, title_of

TABLE = "PromptmillPromptTable"
ONE_ROW: dict[str, dict[str, Any]] = {
    TABLE: {
        "file": "(pasted text)",
        "prompt": "{prompt}",
        "negative": "",
        "rows": "",
        "filter": "",
        "variants": 1,
    },
    "PromptmillTableRow": {"row": 1, "variant": 1},
    "PromptmillEncodeRows": {"start": 1, "rows_per_batch": 1},
}
"""What is the same for every row: the pasted text is the table, and it has one row, whose prompt is complete."""


@dataclass(frozen=True, slots=True)
class PromptTable:
    """What a Prompt Table on the canvas says of every row."""

    node_id: str
    prompt: str
    """Template."""
    negative: str
    """Template, for rows that have none of their own."""
    file_name: str
    """Pattern; blank: the table's own."""
    base_seed: int

    @property
    def text(self) -> Target:
        """Where the row is pasted."""
        return Target(self.node_id, "text")


def prompt_tables(flow: Flow) -> list[PromptTable]:
    """
    The workflow's own tables.

    :raises WorkflowError: a template or the seed comes from another node.
    """
    return [_read(flow, node_id) for node_id, node in flow.api.items() if node["class_type"] == TABLE]


def _read(flow: Flow, node_id: str) -> PromptTable:
    inputs = flow.api[node_id]["inputs"]
    for name in ("prompt", "negative", "file_name", "base_seed"):
        if is_link(inputs.get(name)):
            raise WorkflowError(
                "the driver fills this input, so it cannot come from another node",
                where=f"{title_of(flow.api[node_id])}.{name}",
                hint="type it into the Prompt Table",
            )
    return PromptTable(
        node_id,
        inputs.get("prompt", "{prompt}"),
        inputs.get("negative", ""),
        str(inputs.get("file_name", "")).strip(),
        int(inputs.get("base_seed", 0)),
    )


def one_row(flow: Flow, rows: Mapping[Target, Mapping[str, str]]) -> dict[Target, Any]:
    """The inputs that make each table hold one row.

    :param rows: where a row is pasted, to its fields.
    """
    values: dict[Target, Any] = {
        Target(node_id, name): value
        for node_id, node in flow.api.items()
        for name, value in ONE_ROW.get(node["class_type"], {}).items()
        if not is_link(node["inputs"].get(name))
    }
    return values | {target: json.dumps(fields, ensure_ascii=False) for target, fields in rows.items()}
