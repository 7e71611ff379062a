"""A workflow with this project's own nodes: the driver gives its Prompt Table one row at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .flow import Flow
from .schema import Target, is_link

TABLE = "PromptmillPromptTable"
ONE_ROW: dict[str, dict[str, Any]] = {
    TABLE: {"file": "(pasted text)", "rows": "", "filter": "", "variants": 1},
    "PromptmillTableRow": {"row": 1, "variant": 1},
    "PromptmillEncodeRows": {"start": 1, "rows_per_batch": 1},
}
"""What is the same for every row: the pasted text is the table, and it has one row."""


def tables(flow: Flow) -> list[Target]:
    """The texts that a row is pasted into."""
    return [Target(node_id, "text") for node_id, node in flow.api.items() if node["class_type"] == TABLE]


def one_row(flow: Flow, fields: Mapping[str, str]) -> dict[Target, Any]:
    """The inputs that make the workflow's tables hold one row with these fields."""
    text = json.dumps(fields, ensure_ascii=False)
    values: dict[Target, Any] = {
        Target(node_id, name): value
        for node_id, node in flow.api.items()
        for name, value in ONE_ROW.get(node["class_type"], {}).items()
        if not is_link(node["inputs"].get(name))
    }
    return values | dict.fromkeys(tables(flow), text)
