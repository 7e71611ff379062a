"""Read a workflow from API JSON, UI JSON or an image's metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import WorkflowError
from .convert import same_graph, to_api
from .graph import Graph
from .schema import Api, ObjectInfo

IMAGE_SUFFIXES = frozenset({".png", ".webp", ".jpg", ".jpeg"})
SAVE_AGAIN = "on the canvas: Workflow > Save, or Workflow > Export (API)"


@dataclass(frozen=True)
class WorkflowFile:
    """A workflow as it was on disk. ``kind`` is ``api``, ``ui`` or ``png`` (any image with metadata)."""

    path: Path
    kind: str
    api: Api | None
    ui: dict[str, Any] | None

    def graph(self, object_info: ObjectInfo) -> Graph:
        """The graph as a server with this /object_info sees it.

        An image that holds both forms is what its API prompt says; its UI graph is kept only if it
        converts to the same.

        :raises WorkflowError: the UI graph cannot be converted, or nothing of it would be executed.
        """
        ui = self.ui
        if self.api is not None:
            return Graph(self.api, object_info, ui if ui and self._agree(ui, object_info) else None)
        assert ui is not None
        try:
            api = to_api(ui, object_info)
        except WorkflowError as error:
            raise WorkflowError(error.message, where=str(self.path), hint=error.hint) from error
        if not api:
            raise WorkflowError(
                "every node is muted, bypassed or a note", where=str(self.path), hint="unmute the nodes"
            )
        return Graph(api, object_info, ui)

    def _agree(self, ui: dict[str, Any], object_info: ObjectInfo) -> bool:
        try:
            return same_graph(to_api(ui, object_info), self.api or {})
        except WorkflowError:
            return False


def load_workflow(path: Path) -> WorkflowFile:
    """Read ``path``: .json in API or UI format, or .png, .webp, .jpg as ComfyUI saves them.

    :raises WorkflowError: not readable, or no workflow in it.
    """
    try:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return _from_image(path)
        document = _json(path.read_bytes().decode("utf-8-sig"), str(path))
    except OSError as error:
        raise WorkflowError(
            error.strerror or "cannot be read", where=str(path), hint="check the path after -w"
        ) from error
    except UnicodeDecodeError as error:
        raise WorkflowError("is not a UTF-8 text file", where=str(path), hint=SAVE_AGAIN) from error
    if not isinstance(document, dict):
        raise WorkflowError("is not a workflow: a JSON object is needed", where=str(path), hint=SAVE_AGAIN)
    if isinstance(document.get("nodes"), list) and isinstance(document.get("links"), list):
        return WorkflowFile(path, "ui", None, _ui(document, str(path)))
    if isinstance(document.get("prompt"), dict):
        document = document["prompt"]
    return WorkflowFile(path, "api", _api(document, str(path)), None)


def _from_image(path: Path) -> WorkflowFile:
    found = _metadata(path)
    api = _api(_json(found["prompt"], f"{path} metadata prompt"), str(path)) if "prompt" in found else None
    ui = (
        _ui(_json(found["workflow"], f"{path} metadata workflow"), str(path)) if "workflow" in found else None
    )
    if api is None and ui is None:
        raise WorkflowError(
            "the image holds no workflow: its metadata was stripped, or ComfyUI did not make it",
            where=str(path),
            hint="use the file that Save Image wrote, or a workflow .json",
        )
    return WorkflowFile(path, "png", api, ui)


def _metadata(path: Path) -> dict[str, str]:
    """PNG text chunks; in WebP and JPEG the EXIF texts ``prompt:{...}`` and ``workflow:{...}``."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            texts = {key: value for key, value in image.info.items() if isinstance(value, str)}
            for value in image.getexif().values():
                if isinstance(value, str):
                    key, colon, text = value.partition(":")
                    if colon:
                        texts.setdefault(key.lower(), text)
    except (UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise WorkflowError("is not a readable image", where=str(path), hint=SAVE_AGAIN) from error
    return {key: texts[key] for key in ("prompt", "workflow") if key in texts}


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text.rstrip("\0"))
    except json.JSONDecodeError as error:
        raise WorkflowError(
            f"is not JSON: {error.msg}",
            where=f"{where} line {error.lineno} column {error.colno}",
            value=text[error.pos : error.pos + 20],
            hint=SAVE_AGAIN,
        ) from error


def _ui(document: Any, where: str) -> dict[str, Any]:
    if not isinstance(document, dict) or not document.get("nodes"):
        raise WorkflowError("has no nodes", where=where, hint=SAVE_AGAIN)
    return document


def _api(document: Any, where: str) -> Api:
    if not document:
        raise WorkflowError("has no nodes", where=where, hint=SAVE_AGAIN)
    nodes = document.values() if isinstance(document, dict) else ()
    if not any(isinstance(node, dict) and "class_type" in node for node in nodes):
        raise WorkflowError(
            "is not a workflow: neither nodes with class_type (API format) nor nodes and links (UI format)",
            where=where,
            value=", ".join(list(document)[:5]) if isinstance(document, dict) else document,
            hint=SAVE_AGAIN,
        )
    for node_id, node in document.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            raise WorkflowError(
                "has no class_type", where=f"{where} node {node_id}", value=node, hint=SAVE_AGAIN
            )
        if not isinstance(node.get("inputs"), dict):
            raise WorkflowError("has no inputs", where=f"{where} node {node_id}", value=node, hint=SAVE_AGAIN)
    return dict(document)
