"""A whole graph against a server's /object_info, before anything is queued."""

from __future__ import annotations

from collections.abc import Container, Iterator
from difflib import get_close_matches
from typing import Any

from ...errors import Problems, PromptmillError, ValueRefused, WorkflowError
from .checks import compile_check
from .flow import Flow
from .outputs import is_output
from .schema import Spec, Target, is_link, origin_of, title_of


def check(flow: Flow, bound: Container[Target] = ()) -> Problems:
    """What this server would refuse, all of it: classes, links, missing inputs, values.

    Values are looked at where the server looks, upstream of the nodes that it executes, but for those of
    ``bound``, which every row replaces.
    """
    problems = Problems(_missing_classes(flow))
    executed = flow.upstream(node_id for node_id in flow.api if is_output(flow, node_id))
    for node_id in flow.api:
        for problem in _links(flow, node_id):
            problems.add(problem)
        if node_id in executed:
            for problem in _inputs(flow, node_id, bound):
                problems.add(problem)
    return problems


def _missing_classes(flow: Flow) -> Iterator[PromptmillError]:
    missing: dict[str, list[str]] = {}
    for node_id, node in flow.api.items():
        if node["class_type"] not in flow.object_info:
            missing.setdefault(node["class_type"], []).append(node_id)
    for name, ids in missing.items():
        close = get_close_matches(name, flow.object_info, n=1, cutoff=0.8)
        guess = f"did you mean {close[0]!r}? " if close else ""
        yield WorkflowError(
            "the server has no node of this class",
            where="node " + ", ".join(f"#{node_id}" for node_id in ids),
            value=name,
            hint=f"{guess}install the node pack it comes from on the server, or remove the node; "
            "the embedded engine has a few core nodes only, and such a workflow needs ComfyUI",
        )


def _links(flow: Flow, node_id: str) -> Iterator[PromptmillError]:
    for name in flow.links(node_id):
        link = flow.api[node_id]["inputs"][name]
        place = _place(flow, node_id, name)
        hint = "open the workflow on the canvas, wire this input and save again"
        origin = origin_of(link)
        if origin is None or origin[0] not in flow.api:
            yield WorkflowError("is wired to a node that does not exist", where=place, value=link, hint=hint)
        elif (outputs := flow.outputs(origin[0])) and not 0 <= origin[1] < len(outputs):
            yield WorkflowError(
                f"is wired to an output that #{origin[0]} does not have", where=place, value=link, hint=hint
            )


def _inputs(flow: Flow, node_id: str, bound: Container[Target]) -> Iterator[PromptmillError]:
    inputs = flow.api[node_id]["inputs"]
    for name, spec in flow.specs(node_id).items():
        place = _place(flow, node_id, name)
        if name not in inputs:
            if spec.required:
                yield WorkflowError(
                    "is required and missing",
                    where=place,
                    hint="wire or fill it on the canvas and save again",
                )
        elif Target(node_id, name) in bound or is_link(inputs[name]):
            continue
        elif problem := _refusal(flow, Target(node_id, name), spec, inputs[name], place):
            yield problem


def _refusal(flow: Flow, target: Target, spec: Spec, value: Any, place: str) -> PromptmillError | None:
    """As the server, which converts first: ``"5"`` and ``5.0`` are an INT to it."""
    if flow.api[target.node_id]["class_type"] == "CustomCombo" or spec.options.get("multiselect"):
        return None
    try:
        if spec.type == "INT":
            value = int(value)
        elif spec.type == "FLOAT":
            value = float(value)
        elif spec.type == "BOOLEAN":
            value = bool(value)
        compile_check(spec, place)(value)
    except ValueRefused as error:
        error.hint += f"; --set '{target}=VALUE' replaces it"
        return error
    except (TypeError, ValueError):
        return ValueRefused(
            f"is not of type {spec.type}", where=place, value=value, hint="set it on the canvas"
        )
    return None


def _place(flow: Flow, node_id: str, name: str) -> str:
    return f"#{node_id}.{name} ({title_of(flow.api[node_id])})"
