"""UI format to API format: comfy-cli's converter, and what the canvas does differently.

Checked against the frontend's own graphToPrompt in tests/workflow/test_real_templates.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ...errors import WorkflowError
from .dynamic import draw
from .schema import Api, ObjectInfo, Target, is_link

LINK_FIELDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
BOX_INPUT = -10  # litegraph's id for the left edge inside a subgraph


def to_api(ui: Mapping[str, Any], object_info: ObjectInfo) -> Api:
    """Convert a UI graph as the canvas would when Queue is pressed.

    :raises WorkflowError: the graph cannot be converted.
    """
    from comfy_cli import workflow_to_api as converter

    logging.getLogger(converter.__name__).setLevel(logging.CRITICAL)
    try:
        api: Api = converter.convert_ui_to_api(dict(ui), _without_dynamic_prompts(ui, object_info))
        groups = promoted_groups(ui)
        _share(api, groups.values())
        _apply_primitives(api, ui, groups)
        _complete_custom_combos(api, ui)
    except (converter.WorkflowConversionError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise WorkflowError(
            f"cannot be converted, a part of the graph is damaged: {error!r}",
            hint="open it on the canvas and use Workflow > Export (API)",
        ) from error
    _draw_dynamic_prompts(api, object_info, {target for group in groups.values() for target in group})
    return api


def same_graph(left: Api, right: Api) -> bool:
    """Whether both execute alike: titles and the names of saved files aside."""
    return _bare(left) == _bare(right)


def _bare(api: Api) -> dict[str, Any]:
    return {
        node_id: (
            node["class_type"],
            {name: value for name, value in node["inputs"].items() if name != "filename_prefix"},
        )
        for node_id, node in api.items()
    }


def definitions_of(ui: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The subgraph definitions of a UI graph."""
    found: list[dict[str, Any]] = (ui.get("definitions") or {}).get("subgraphs") or []
    return found


def link_field(link: Any, name: str) -> Any:
    """A field of a link: the root graph writes lists, subgraphs write objects."""
    return link[LINK_FIELDS.index(name)] if isinstance(link, list) else link[name]


def scopes(ui: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The root graph and each use of a subgraph, with the prefix that API ids have there."""
    definitions = {definition["id"]: definition for definition in definitions_of(ui)}

    def walk(prefix: str, scope: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        yield prefix, scope
        for node in scope["nodes"]:
            if inner := definitions.get(node["type"]):
                yield from walk(f"{prefix}{node['id']}:", inner)

    return walk("", ui)


def all_nodes(ui: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node under its API id: ``57:27`` is node 27 inside the subgraph node 57."""
    for prefix, scope in scopes(ui):
        for node in scope["nodes"]:
            yield f"{prefix}{node['id']}", node


def promoted_groups(ui: Mapping[str, Any]) -> dict[Target, tuple[Target, ...]]:
    """For each input of each subgraph node, the API inputs that it feeds inside."""
    definitions = {definition["id"]: definition for definition in definitions_of(ui)}

    def leaves(path: str, definition: Mapping[str, Any], slot: int) -> Iterator[Target]:
        nodes = {node["id"]: node for node in definition["nodes"]}
        for link in definition["links"]:
            node = nodes.get(link["target_id"])  # none where wired straight to an output of the subgraph
            if link["origin_id"] != BOX_INPUT or link["origin_slot"] != slot or node is None:
                continue
            name = node["inputs"][link["target_slot"]]["name"]
            inside = f"{path}:{node['id']}"
            if inner := definitions.get(node["type"]):
                names = [entry["name"] for entry in inner["inputs"]]
                yield from leaves(inside, inner, names.index(name))
            else:
                yield Target(inside, name)

    return {
        Target(path, entry["name"]): tuple(leaves(path, definitions[node["type"]], slot))
        for path, node in all_nodes(ui)
        if node["type"] in definitions
        for slot, entry in enumerate(definitions[node["type"]]["inputs"])
    }


def dynamic_prompt_inputs(schema: Mapping[str, Any]) -> Iterator[str]:
    """The inputs in which the canvas draws ``{a|b}`` and strips comments."""
    for section in schema["input"].values():
        for name, declared in section.items():
            if len(declared) > 1 and isinstance(declared[1], dict) and declared[1].get("dynamicPrompts"):
                yield name


def _without_dynamic_prompts(ui: Mapping[str, Any], object_info: ObjectInfo) -> dict[str, Any]:
    """The same schemas, so that the converter leaves texts alone: it would also draw in promoted ones."""
    plain = dict(object_info)
    for name in {node["type"] for _, node in all_nodes(ui)} & object_info.keys():
        schema = object_info[name]
        if any(dynamic_prompt_inputs(schema)):
            sections = {
                section: {key: _static(declared) for key, declared in declared_inputs.items()}
                for section, declared_inputs in schema["input"].items()
            }
            plain[name] = {**schema, "input": sections}
    return plain


def _static(declared: Any) -> Any:
    if len(declared) > 1 and isinstance(declared[1], dict):
        return [declared[0], {**declared[1], "dynamicPrompts": False}]
    return declared


def _share(api: Api, groups: Iterable[tuple[Target, ...]]) -> None:
    """A widget on a subgraph node feeds all that it is wired to, also inputs without a widget of their own."""
    for group in groups:
        present = [target for target in group if target.node_id in api]
        values = [
            api[target.node_id]["inputs"][target.input]
            for target in present
            if target.input in api[target.node_id]["inputs"]
        ]
        if values and not is_link(values[0]):
            for target in present:
                api[target.node_id]["inputs"].setdefault(target.input, values[0])


def _apply_primitives(api: Api, ui: Mapping[str, Any], groups: Mapping[Target, tuple[Target, ...]]) -> None:
    """A PrimitiveNode's value overrides the widgets that it feeds."""
    for prefix, scope in scopes(ui):
        nodes = {node["id"]: node for node in scope["nodes"]}
        for link in scope["links"]:
            origin, target = (nodes.get(link_field(link, end)) for end in ("origin_id", "target_id"))
            if origin is None or target is None or origin["type"] != "PrimitiveNode":
                continue
            name = target["inputs"][link_field(link, "target_slot")]["name"]
            fed = Target(f"{prefix}{target['id']}", name)
            for leaf in groups.get(fed, (fed,)):
                if leaf.node_id in api and origin.get("widgets_values"):
                    api[leaf.node_id]["inputs"][leaf.input] = origin["widgets_values"][0]


def _complete_custom_combos(api: Api, ui: Mapping[str, Any]) -> None:
    """CustomCombo has widgets that only the canvas knows: index, option1, option2 ..."""
    for node_id, node in all_nodes(ui):
        if node["type"] == "CustomCombo" and node_id in api:
            names = ["choice", "index", *(f"option{i}" for i in range(1, len(node["widgets_values"]) - 1))]
            for name, value in zip(names, node["widgets_values"], strict=False):
                api[node_id]["inputs"].setdefault(name, value)


def _draw_dynamic_prompts(api: Api, object_info: ObjectInfo, promoted: set[Target]) -> None:
    for node_id, node in api.items():
        for name in dynamic_prompt_inputs(object_info.get(node["class_type"], {"input": {}})):
            text = node["inputs"].get(name)
            if isinstance(text, str) and Target(node_id, name) not in promoted:
                node["inputs"][name] = draw(text)
