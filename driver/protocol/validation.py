"""Which prompts are accepted, and in which words the others are refused: ComfyUI's shapes and types."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .graph import Graph, Node

CASTS: dict[str, Callable[[Any], Any]] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}

Json = dict[str, Any]


@dataclass
class Verdict:
    """What POST /prompt makes of a graph: ``error`` when nothing of it will run, else the ``outputs`` that will."""

    error: Json | None = None
    outputs: list[str] = field(default_factory=list)
    node_errors: Json = field(default_factory=dict)


def problem(kind: str, message: str, details: str, **extra_info: Any) -> Json:
    """One error as ComfyUI writes it."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra_info}


def type_name(error: BaseException) -> str:
    """The error's class, with its module where it is not built in."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def validate(
    graph: Graph,
    classes: Json,
    is_input_file: Callable[[str], bool],
    only: list[str] | None = None,
    hint: str = "",
) -> Verdict:
    """
    Check a graph as ComfyUI does, casting its numbers in place.

    :param classes: as /object_info gives them.
    :param is_input_file: tells whether LoadImage can have a file.
    :param only: the outputs that are wanted, if not all.
    :param hint: said of a node class that is not there.
    :raises Exception: where ComfyUI would answer a plain 500: this is no graph in API format.
    """
    for node_id, node in graph.items():
        if error := _missing_class(node_id, node, classes, hint):
            return Verdict(error)
    wanted = [
        node_id
        for node_id, node in graph.items()
        if classes[node["class_type"]]["output_node"] and (only is None or node_id in only)
    ]
    if not wanted:
        return Verdict(problem("prompt_no_outputs", "Prompt has no outputs", ""))

    check = _Check(graph, classes, is_input_file)
    verdict = Verdict()
    details: list[str] = []
    for output in wanted:
        try:
            good = check.node(output)
        except Exception as error:
            good = False
            message = "Exception when validating node"
            about = {"exception_type": type_name(error), "traceback": _traceback(error)}
            check.errors[output] = [problem("exception_during_validation", message, str(error), **about)]
        if good:
            verdict.outputs.append(output)
            continue
        details += [f"{error['message']}: {error['details']}" for error in check.errors[output]]
        for node_id, errors in check.errors.items():
            if errors:
                fresh = {
                    "errors": errors,
                    "dependent_outputs": [],
                    "class_type": graph[node_id]["class_type"],
                }
                verdict.node_errors.setdefault(node_id, fresh)["dependent_outputs"].append(output)
    if not verdict.outputs:
        verdict.error = problem(
            "prompt_outputs_failed_validation", "Prompt outputs failed validation", "\n".join(details)
        )
    return verdict


def _missing_class(node_id: str, node: Node, classes: Json, hint: str) -> Json | None:
    if "class_type" in node and node["class_type"] in classes:
        return None
    title = node.get("_meta", {}).get("title", node.get("class_type"))
    details = f"Node ID '#{node_id}'"
    if "class_type" in node:
        message = f"Node '{title}' not found. The custom node may not be installed."
        details += f". {hint}" if hint else ""
    else:
        missing = "has no class_type. The workflow may be corrupted or a custom node is missing."
        message = f"Node '{title or f'ID #{node_id}'}' {missing}"
    about = {"node_id": node_id, "class_type": node.get("class_type"), "node_title": title}
    return problem("missing_node_type", message, details, **about)


def _traceback(error: Exception) -> list[str]:
    return traceback.format_tb(error.__traceback__)


class _Check:
    def __init__(self, graph: Graph, classes: Json, is_input_file: Callable[[str], bool]) -> None:
        self.graph = graph
        self.classes = classes
        self.is_input_file = is_input_file
        self.errors: dict[str, list[Json]] = {}
        self.good: dict[str, bool] = {}
        self.path: list[str] = []

    def node(self, node_id: str) -> bool:
        """Check a node and all that it needs."""
        if node_id in self.good:
            return self.good[node_id]
        if node_id in self.path:
            return self.cycle(self.path[self.path.index(node_id) :])
        given = self.graph[node_id]["inputs"]
        groups = self.classes[self.graph[node_id]["class_type"]]["input"]
        errors: list[Json] = []
        below = True
        self.path.append(node_id)
        try:
            for name, spec in {**groups.get("required", {}), **groups.get("optional", {})}.items():
                if name not in given:
                    if name in groups.get("required", {}):
                        message = "Required input is missing"
                        errors.append(problem("required_input_missing", message, name, input_name=name))
                elif isinstance(given[name], list):
                    error, sound = self.link(name, given[name], spec)
                    errors += error
                    below = below and sound
                else:
                    errors += self.value(name, given, spec)
        finally:
            self.path.pop()
        self.errors[node_id] = [*self.errors.get(node_id, []), *errors]
        self.good[node_id] = below and not self.errors[node_id]
        return self.good[node_id]

    def cycle(self, nodes: list[str]) -> bool:
        """Blame every node of a cycle."""
        way = " -> ".join(f"{it} ({self.graph[it]['class_type']})" for it in (*nodes, nodes[0]))
        for node_id in nodes:
            about = {"node_id": node_id, "cycle_nodes": nodes}
            self.errors[node_id] = [problem("dependency_cycle", "Dependency cycle detected", way, **about)]
        return False

    def link(self, name: str, link: list[Any], spec: list[Any]) -> tuple[list[Json], bool]:
        """Return what is wrong with the link itself, and whether all behind it is sound."""
        about = {"input_name": name, "input_config": spec}
        if len(link) != 2:
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return [problem("bad_linked_input", message, name, **about, received_value=link)], True
        source, slot = link
        received = self.classes[self.graph[source]["class_type"]]["output"][slot]
        if received != spec[0]:
            message = "Return type mismatch between linked nodes"
            details = f"{name}, received_type({received}) mismatch input_type({spec[0]})"
            more = {**about, "received_type": received, "linked_node": link}
            return [problem("return_type_mismatch", message, details, **more)], True
        try:
            return [], self.node(source)
        except Exception as error:
            what = {"exception_message": str(error), "exception_type": type_name(error)}
            more = {**about, **what, "traceback": _traceback(error), "linked_node": link}
            message = "Exception when validating inner node"
            self.errors[source] = [problem("exception_during_inner_validation", message, str(error), **more)]
            self.good[source] = False
            return [], False

    def value(self, name: str, given: Json, spec: list[Any]) -> list[Json]:
        """Cast a value in place and check it against its limits or its list."""
        kind, limits = spec[0], spec[1] if len(spec) > 1 else {}
        if isinstance(given[name], dict) and "__value__" in given[name]:
            given[name] = given[name]["__value__"]
        about = {"input_name": name, "input_config": spec, "received_value": given[name]}
        if isinstance(kind, str) and kind in CASTS:
            try:
                given[name] = CASTS[kind](given[name])
            except (TypeError, ValueError, OverflowError) as error:
                message = f"Failed to convert an input value to a {kind} value"
                details = f"{name}, {given[name]}, {error}"
                more = {**about, "exception_message": str(error)}
                return [problem("invalid_input_type", message, details, **more)]
        value = about["received_value"] = given[name]
        if limits.get("image_upload"):
            if self.is_input_file(value):
                return []
            message = "Custom validation failed for node"
            details = f"{name} - Invalid image file: {value}"
            return [problem("custom_validation_failed", message, details, input_name=name)]
        if "min" in limits and value < limits["min"]:
            message = f"Value {value} smaller than min of {limits['min']}"
            return [problem("value_smaller_than_min", message, name, **about)]
        if "max" in limits and value > limits["max"]:
            message = f"Value {value} bigger than max of {limits['max']}"
            return [problem("value_bigger_than_max", message, name, **about)]
        options = limits.get("options", []) if kind == "COMBO" else kind
        if isinstance(options, list) and value not in options:
            many = len(options) > 20
            shown = f"(list of length {len(options)})" if many else str(options)
            details = f"{name}: {value!r} not in {shown}"
            more = {**about, "input_config": None if many else spec}
            return [problem("value_not_in_list", "Value not in list", details, **more)]
        return []
