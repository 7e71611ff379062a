"""A line of text on a node while it works."""

from __future__ import annotations

from comfy_execution.utils import get_executing_context
from server import PromptServer


def say(text: str, node_id: str) -> None:
    """To the one who queued it only: nodes of others' workflows have the same numbers."""
    server = PromptServer.instance
    server.send_progress_text(text, node_id, server.client_id)


def say_where_it_runs(text: str) -> None:
    """On the node that ComfyUI runs now, of which we may know nothing: one that samples a model of ours."""
    if running := get_executing_context():
        say(text, running.node_id)
