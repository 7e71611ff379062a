"""A line of text on a node while it works."""

from __future__ import annotations

from server import PromptServer


def say(text: str, node_id: str) -> None:
    """To the one who queued it only: nodes of others' workflows have the same numbers."""
    server = PromptServer.instance
    server.send_progress_text(text, node_id, server.client_id)
