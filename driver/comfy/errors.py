"""What a server, or the way to it, can do wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import ServerError


class ServerGone(ServerError):
    """The server cannot be reached."""

    code = "server_gone"


class NotSent(ServerGone):
    """The connection was refused: the prompt certainly did not arrive."""

    code = "not_sent"


class Ambiguous(ServerGone):
    """The answer was lost: the prompt may have arrived. Look its id up before sending it again."""

    code = "ambiguous"


class ServerTrouble(ServerError):
    """The server answers, but not as ComfyUI does. A prompt refused this way was not queued."""

    code = "server_trouble"


class ImageMissing(ServerError):
    """The server no longer has this file."""

    code = "image_missing"


class Rejected(ServerError):
    """The server does not accept this prompt, or not all of it. Nothing of it stays queued."""

    code = "rejected"
    exit_code = 2

    def __init__(self, where: str, raw: dict[str, Any]) -> None:
        """
        :param where: the server's address.
        :param raw: the reply of POST /prompt: ``error`` and ``node_errors``.
        """
        self.raw = raw
        self.errors: tuple[str, ...] = tuple(_readable(raw))
        super().__init__("the prompt was rejected: " + "; ".join(self.errors), where=where)

    @property
    def server_changed(self) -> bool:
        """Whether the server lacks a node or a listed value, such as a model: no fault of one prompt."""
        error = self.raw.get("error")
        found = {error.get("type")} if isinstance(error, dict) else set()
        for node in (self.raw.get("node_errors") or {}).values():
            found |= {problem["type"] for problem in node["errors"]}
        return bool(found & {"missing_node_type", "value_not_in_list"})


def _readable(raw: dict[str, Any]) -> Iterator[str]:
    """One line for each thing wrong with each node; the prompt's own error where no node has one."""
    nodes: dict[str, Any] = raw.get("node_errors") or {}
    for node_id, node in nodes.items():
        for error in node["errors"]:
            yield f"node {node_id} ({node['class_type']}): {error['message']}: {error['details']}"
    if not nodes:
        error = raw.get("error")
        if isinstance(error, dict):
            yield ": ".join(text for text in (error.get("message"), error.get("details")) if text)
        else:
            yield str(error)
