"""Which prompts the fake accepts, and in which words it refuses the others: ComfyUI's shapes and types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Graph = dict[str, Any]
CASTS: dict[str, Callable[[Any], Any]] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


@dataclass
class Verdict:
    """What POST /prompt makes of a graph: ``error`` when nothing of it will run, else the ``outputs`` that will."""

    error: dict[str, Any] | None = None
    outputs: list[str] = field(default_factory=list)
    node_errors: dict[str, Any] = field(default_factory=dict)


def problem(kind: str, message: str, details: str, **extra_info: Any) -> dict[str, Any]:
    """One error as ComfyUI writes it."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra_info}


def validate(graph: Graph, classes: dict[str, Any], input_files: Callable[[str], bool]) -> Verdict:
    """
    Check a graph as ComfyUI does, casting its numbers in place.

    :param input_files: tells whether LoadImage can have a file.
    :raises Exception: where ComfyUI would answer a plain 500: this is no graph in API format.
    """
    for node_id, node in graph.items():
        title = node.get("_meta", {}).get("title", node.get("class_type"))
        if node.get("class_type") not in classes:
            missing = "not found. The custom node may not be installed."
            if "class_type" not in node:
                missing = "has no class_type. The workflow may be corrupted or a custom node is missing."
            about = {"node_id": node_id, "class_type": node.get("class_type"), "node_title": title}
            message = f"Node '{title}' {missing}"
            return Verdict(problem("missing_node_type", message, f"Node ID '#{node_id}'", **about))
    wanted = [node_id for node_id, node in graph.items() if classes[node["class_type"]]["output_node"]]
    if not wanted:
        return Verdict(problem("prompt_no_outputs", "Prompt has no outputs", ""))

    check = _Check(graph, classes, input_files)
    verdict = Verdict()
    details: list[str] = []
    for output in wanted:
        try:
            good = check.node(output)
        except Exception as error:
            good = False
            about = {"exception_type": type(error).__name__, "traceback": []}
            check.errors[output] = [
                problem("exception_during_validation", "Exception when validating node", str(error), **about)
            ]
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


class _Check:
    def __init__(self, graph: Graph, classes: dict[str, Any], input_files: Callable[[str], bool]) -> None:
        self.graph = graph
        self.classes = classes
        self.input_files = input_files
        self.errors: dict[str, list[dict[str, Any]]] = {}
        self.good: dict[str, bool] = {}

    def node(self, node_id: str) -> bool:
        """Check a node and all that it needs."""
        if node_id in self.good:
            return self.good[node_id]
        self.good[node_id] = False  # what a cycle comes back to
        errors = self.errors[node_id] = []
        given = self.graph[node_id]["inputs"]
        below = True
        for name, spec in self.classes[self.graph[node_id]["class_type"]]["input"]["required"].items():
            if name not in given:
                errors.append(
                    problem("required_input_missing", "Required input is missing", name, input_name=name)
                )
            elif isinstance(given[name], list):
                error, sound = self.link(name, given[name], spec)
                errors += error
                below = below and sound
            else:
                errors += self.value(name, given, spec)
        self.good[node_id] = below and not errors
        return self.good[node_id]

    def link(self, name: str, link: list[Any], spec: list[Any]) -> tuple[list[dict[str, Any]], bool]:
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
        return [], self.node(source)

    def value(self, name: str, given: dict[str, Any], spec: list[Any]) -> list[dict[str, Any]]:
        """Cast a value in place and check it against its limits or its list."""
        kind, limits = spec[0], spec[1] if len(spec) > 1 else {}
        about = {"input_name": name, "input_config": spec, "received_value": given[name]}
        if isinstance(kind, str) and kind in CASTS:
            try:
                given[name] = CASTS[kind](given[name])
            except (TypeError, ValueError) as error:
                message = f"Failed to convert an input value to a {kind} value"
                details = f"{name}, {given[name]}, {error}"
                more = {**about, "exception_message": str(error)}
                return [problem("invalid_input_type", message, details, **more)]
        value = given[name]
        if limits.get("image_upload"):
            if self.input_files(value):
                return []
            details = f"{name} - Invalid image file: {value}"
            return [
                problem(
                    "custom_validation_failed", "Custom validation failed for node", details, input_name=name
                )
            ]
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


def is_link(value: Any) -> bool:
    """Tell a link from a value."""
    return isinstance(value, list) and len(value) == 2


def upstream(graph: Graph, node_id: str) -> list[str]:
    """All the nodes that a node needs and the node itself, in an order in which they can run."""
    order: dict[str, None] = {}

    def visit(current: str) -> None:
        for value in graph[current]["inputs"].values():
            if is_link(value) and value[0] not in order:
                visit(value[0])
        order[current] = None

    visit(node_id)
    return list(order)
