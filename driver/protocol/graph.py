"""A workflow in API format: ``{node_id: {"class_type": ..., "inputs": {name: value or [node_id, slot]}}}``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Iterable
from typing import Any

Graph = dict[str, Any]
Node = dict[str, Any]


def is_link(value: Any) -> bool:
    """Tell a link, [node_id, slot], from a value."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int | float)
    )


def upstream(graph: Graph, targets: Iterable[str], known: Container[str] = ()) -> list[str]:
    """
    All the nodes that the targets need and the targets themselves, in an order in which they can run.

    :param known: nodes that need nothing any more; they are left out, unless they are targets.
    """
    order: dict[str, None] = {}

    def visit(current: str) -> None:
        for value in graph[current]["inputs"].values() if current not in known else ():
            if _leads_on(graph, value) and value[0] not in order and value[0] not in known:
                visit(value[0])
        order[current] = None

    for target in targets:
        visit(target)
    return list(order)


def signatures(graph: Graph, targets: Iterable[str], fingerprint: Callable[[Node], str]) -> dict[str, bytes]:
    """
    For each node that the targets need, a key that is the same where all that shapes its outputs is the same.

    :param fingerprint: what else than its inputs decides what a node makes, such as the content of a file.
    """
    keys: dict[str, bytes] = {}
    for node_id in upstream(graph, targets):
        node = graph[node_id]
        inputs = {
            name: [keys[value[0]].hex(), value[1]] if _leads_on(graph, value) else value
            for name, value in node["inputs"].items()
        }
        what = json.dumps([node["class_type"], fingerprint(node), inputs], sort_keys=True)
        keys[node_id] = hashlib.blake2b(what.encode(), digest_size=16).digest()
    return keys


def _leads_on(graph: Graph, value: Any) -> bool:
    """Tell a link to a node that is there; an input that no class declares may hold anything."""
    return is_link(value) and value[0] in graph
