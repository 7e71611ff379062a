"""What a websocket is told when it opens, and what it may say."""

from __future__ import annotations

import json
from typing import Any

from .routes import Server, queue_info


def greeting(server: Server, sid: str) -> list[tuple[str, dict[str, Any]]]:
    """The first messages to a client; one that comes back hears which node of its prompt runs."""
    messages: list[tuple[str, dict[str, Any]]] = [("status", {"status": queue_info(server), "sid": sid})]
    node = server.worker.node
    if node is not None and any(job.client_id == sid for job in list(server.jobs.running.values())):
        messages.append(("executing", {"node": node}))
    return messages


def flags_of(text: str) -> dict[str, Any] | None:
    """What a client can do, where its first message says so; the server then answers with FEATURES."""
    try:
        message = json.loads(text)
        return dict(message["data"]) if message["type"] == "feature_flags" else None
    except (ValueError, TypeError, KeyError):
        return None
