"""The graph of one row: what its image carries, so that dropping it on the canvas gives that very row back."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from typing import Any

from comfy_api.latest import io

from ..table import Job
from .encode_rows import EncodeRows
from .prompt_table import PromptTable
from .table_row import TableRow

SOURCES = ("rows", "table")
"""The inputs that lead from a saving node back to its Prompt Table."""

NARROWED: dict[str, type[io.ComfyNode]] = {
    "PromptmillPromptTable": PromptTable,
    "PromptmillTableRow": TableRow,
    "PromptmillEncodeRows": EncodeRows,
}


class Graphs:
    """The prompt and the workflow that a saving node runs in, narrowed to a row when one of its images is saved."""

    def __init__(
        self, prompt: dict[str, Any] | None, extra_pnginfo: dict[str, Any] | None, node_id: str
    ) -> None:
        """
        :param prompt: the graph in API format, as ComfyUI gives it to an output node.
        :param extra_pnginfo: what the client wants in the files; ``workflow`` is the graph of the canvas.
        :param node_id: the saving node's.
        """
        self._prompt = prompt or {}
        self._extra = extra_pnginfo or {}
        self._nodes = [
            found
            for found in _upstream(self._prompt, node_id)
            if self._prompt[found]["class_type"] in NARROWED
        ]

    def of(self, job: Job) -> dict[str, Any]:
        """Keyword to content of the PNG's text chunks."""
        chunks = {"prompt": self._prompt, **self._extra}
        for name in ("prompt", "workflow"):
            if chunks.get(name):
                chunks[name] = copy.deepcopy(chunks[name])
        for node_id in self._nodes:
            kind = self._prompt[node_id]["class_type"]
            values = _values(kind, job)
            inputs = chunks["prompt"][node_id]["inputs"]
            inputs.update(
                {name: value for name, value in values.items() if not isinstance(inputs[name], list)}
            )
            if not chunks.get("workflow"):
                continue
            try:
                _set_widgets(_find(chunks["workflow"], node_id.split(":")), kind, values)
            except (LookupError, TypeError, AttributeError):  # clients send what they like as workflow
                logging.info("promptmill: the workflow in %s shows the whole table", job.file)
        return chunks


def _values(kind: str, job: Job) -> dict[str, Any]:
    if kind == "PromptmillPromptTable":
        return {"rows": str(job.row.number)}
    if kind == "PromptmillTableRow":
        return {"row": job.row.number, "variant": job.variant}
    return {"start": job.variant, "rows_per_batch": 1}


def _upstream(prompt: dict[str, Any], node_id: str) -> Iterator[str]:
    """The node, and what gives it its rows."""
    while node_id in prompt:
        yield node_id
        inputs = prompt[node_id]["inputs"]
        links = [inputs[name] for name in SOURCES if isinstance(inputs.get(name), list)]
        if not links:
            return
        node_id = links[0][0]


def _find(workflow: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """
    A node of the canvas by its id, which names the subgraphs that it is in: ``12:3``.

    :raises LookupError: there is none.
    """
    subgraphs = {graph["id"]: graph for graph in workflow.get("definitions", {}).get("subgraphs", ())}
    node: dict[str, Any] = {}
    for depth, part in enumerate(path):
        graph = subgraphs[node["type"]] if depth else workflow
        node = {str(found["id"]): found for found in graph["nodes"]}[part]
    return node


def _set_widgets(node: dict[str, Any], kind: str, values: dict[str, Any]) -> None:
    schema = NARROWED[kind].GET_SCHEMA()
    names = [found.id for found in schema.inputs if isinstance(found, io.WidgetInput)]
    for name, value in values.items():
        node["widgets_values"][names.index(name)] = value
