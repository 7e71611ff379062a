"""Where a value lives in a UI graph, so that a saved image reopens on the canvas with its row's values.

The canvas keeps values in several places: the node's own widgets, the widgets of the subgraph node
around it, or a primitive that feeds it. Rather than model all that, change one widget, convert, and
see which API inputs moved.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .convert import (
    BOX_INPUT,
    all_nodes,
    definitions_of,
    dynamic_prompt_inputs,
    link_field,
    promoted_groups,
    same_graph,
    scopes,
    to_api,
)
from .dynamic import draw, escape
from .schema import Api, ObjectInfo, Target, is_link

PROBE = "promptmill"
AFTER_GENERATE = frozenset({"fixed", "increment", "decrement", "randomize"})

TreePath = tuple[Any, ...]


@dataclass(frozen=True)
class Slot:
    """A widget: its place in the UI graph and every API input that it drives."""

    path: TreePath
    drives: tuple[Target, ...]


@dataclass
class _Plan:
    ui: dict[str, Any]
    slots: dict[Target, Slot]
    proven: bool | None = None


class Canvas:
    """A UI graph into which rows are written."""

    def __init__(self, ui: dict[str, Any], object_info: ObjectInfo) -> None:
        self._ui = ui
        self._object_info = object_info
        self._api = to_api(ui, object_info)
        self._promoted = {target for group in promoted_groups(ui).values() for target in group}
        self._plans: dict[frozenset[Target], _Plan] = {}

    def gaps(self, targets: frozenset[Target]) -> list[Target]:
        """The targets that no widget drives."""
        return sorted(targets - self._plan(targets).slots.keys(), key=str)

    def drives(self, targets: frozenset[Target], target: Target) -> tuple[Target, ...]:
        """All API inputs that follow ``target``, because one widget drives them all."""
        slot = self._plan(targets).slots.get(target)
        return slot.drives if slot else (target,)

    def fill(self, values: Mapping[Target, Any], api: Api) -> dict[str, Any] | None:
        """The UI graph that shows ``values``; None when it could not be made to convert to ``api``."""
        plan = self._plan(frozenset(values))
        ui = plan.ui
        written: dict[TreePath, Any] = {}
        for target, value in values.items():
            slot = plan.slots.get(target)
            shown = self._shown(target, value)
            if slot is None or shown is None or written.setdefault(slot.path, value) != value:
                return None
            ui = replaced(ui, slot.path, shown)
        if plan.proven is None:
            plan.proven = same_graph(to_api(ui, self._object_info), api)
        return ui if plan.proven else None

    def _shown(self, target: Target, value: Any) -> Any:
        """The widget's text for ``value``: where the canvas draws ``{a|b}``, braces are escaped.

        None for the few texts that no escape protects (``//`` starts a comment there).
        """
        if not isinstance(value, str) or target in self._promoted or not any(c in value for c in "{}|\\/"):
            return value
        schema = self._object_info[self._api[target.node_id]["class_type"]]
        if target.input not in dynamic_prompt_inputs(schema):
            return value
        escaped = escape(value)
        return escaped if draw(escaped) == value else None

    def _plan(self, targets: frozenset[Target]) -> _Plan:
        if targets not in self._plans:
            ui = copy.deepcopy(self._ui)
            for target in sorted(targets, key=str):
                if is_link(self._value(self._api, target)):
                    _unlink(ui, target)
            base = to_api(ui, self._object_info)
            slots = {target: slot for target in targets if (slot := self._find(ui, base, target))}
            for target, slot in list(slots.items()):
                if _uses(ui, slot) > 1 and not targets.issuperset(slot.drives):
                    del slots[target]  # a widget inside a subgraph that is used again elsewhere
            for target in targets:
                _settle(ui, target)
            self._plans[targets] = _Plan(ui, slots)
        return self._plans[targets]

    def _find(self, ui: dict[str, Any], base: Api, target: Target) -> Slot | None:
        value = self._value(base, target)
        for path in _candidates(ui, target):
            for key, shown in _widgets(at(ui, path)):
                if shown != value and not (isinstance(shown, str) and isinstance(value, str)):
                    continue
                probe = (
                    PROBE if isinstance(shown, str) else not shown if isinstance(shown, bool) else shown + 1
                )
                slot = (*path, "widgets_values", key)
                changed = _changed(base, to_api(replaced(ui, slot, probe), self._object_info))
                if target in changed and all(new == probe for new in changed.values()):
                    return Slot(slot, tuple(changed))
        return None

    @staticmethod
    def _value(api: Api, target: Target) -> Any:
        return api[target.node_id]["inputs"].get(target.input)


def replaced(tree: Any, path: TreePath, value: Any) -> Any:
    """``tree`` with one leaf changed; everything off the path is shared, not copied."""
    if not path:
        return value
    branch = copy.copy(tree)
    branch[path[0]] = replaced(tree[path[0]], path[1:], value)
    return branch


def at(tree: Any, path: TreePath) -> Any:
    """The branch of ``tree`` at ``path``."""
    for key in path:
        tree = tree[key]
    return tree


def _changed(before: Api, after: Api) -> dict[Target, Any]:
    return {
        Target(node_id, name): value
        for node_id, node in after.items()
        for name, value in node["inputs"].items()
        if before[node_id]["inputs"].get(name) != value
    }


def _widgets(node: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    widgets = node.get("widgets_values") or []
    pairs = widgets.items() if isinstance(widgets, dict) else enumerate(widgets)
    return [(key, value) for key, value in pairs if isinstance(value, (str, int, float))]


def _places(ui: Mapping[str, Any], node_id: str) -> list[TreePath]:
    """The paths of the node and of the subgraph nodes around it, outermost first."""
    definitions = [definition["id"] for definition in definitions_of(ui)]
    scope: TreePath = ("nodes",)
    found = []
    for part in node_id.split(":"):
        nodes = at(ui, scope)
        index = next(i for i, node in enumerate(nodes) if str(node["id"]) == part)
        found.append((*scope, index))
        kind = nodes[index]["type"]
        if kind in definitions:
            scope = ("definitions", "subgraphs", definitions.index(kind), "nodes")
    return found


def _uses(ui: Mapping[str, Any], slot: Slot) -> int:
    scope = at(ui, slot.path[:-4])
    return sum(other is scope for _, other in scopes(ui))


def _candidates(ui: Mapping[str, Any], target: Target) -> Iterator[TreePath]:
    yield from _places(ui, target.node_id)
    for node_id, node in all_nodes(ui):
        if node["type"] == "PrimitiveNode":
            yield _places(ui, node_id)[-1]


def _unlink(ui: dict[str, Any], target: Target) -> None:
    """Cut the link that feeds ``target``, at the outermost subgraph border that it crosses."""
    places = _places(ui, target.node_id)
    name = target.input
    for path in reversed(places):
        scope = at(ui, path[:-2])
        node = at(ui, path)
        entry = next((entry for entry in node.get("inputs", []) if entry["name"] == name), None)
        link = next(
            (link for link in scope["links"] if entry and link_field(link, "id") == entry["link"]), None
        )
        if entry is None or link is None:
            return
        if link_field(link, "origin_id") == BOX_INPUT:
            name = scope["inputs"][link_field(link, "origin_slot")]["name"]
            continue
        entry["link"] = None
        scope["links"].remove(link)
        for other in scope["nodes"]:
            if other["id"] == link_field(link, "origin_id"):
                other["outputs"][link_field(link, "origin_slot")]["links"].remove(link_field(link, "id"))
        return


def _settle(ui: dict[str, Any], target: Target) -> None:
    """Set control_after_generate to fixed, so that queueing a reopened image gives that image again.

    ``widgets_values_named`` repeats the values for readers; it would be stale, and nothing needs it.
    """
    for path in _candidates(ui, target):
        node = at(ui, path)
        node.pop("widgets_values_named", None)
        widgets = node.get("widgets_values")
        if isinstance(widgets, list):
            for index, value in enumerate(widgets[1:], 1):
                if value in AFTER_GENERATE and type(widgets[index - 1]) is int:
                    widgets[index] = "fixed"
