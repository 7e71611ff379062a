"""What /object_info says about a node's inputs, in one form for old and new nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ObjectInfo = Mapping[str, Any]
Api = dict[str, dict[str, Any]]

WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3", "COLOR"})


@dataclass(frozen=True, slots=True)
class Target:
    """One input of one node in the API graph; ``str()`` is its address by id."""

    node_id: str
    input: str

    def __str__(self) -> str:
        return f"#{self.node_id}.{self.input}"

    @classmethod
    def parse(cls, address: str) -> Target:
        """The target whose ``str()`` is ``address``; node ids have no dots."""
        node_id, _, name = address.removeprefix("#").partition(".")
        return cls(node_id, name)


@dataclass(frozen=True, slots=True)
class Spec:
    """One input as its node class declares it.

    ``type`` is ComfyUI's; both forms of a combo are ``COMBO`` with ``options["options"]``.
    """

    type: str
    options: Mapping[str, Any]
    required: bool

    @property
    def is_widget(self) -> bool:
        """Whether the canvas has a widget for it, so that it can hold a literal."""
        return self.type in WIDGET_TYPES and not self.options.get("forceInput")

    @property
    def choices(self) -> list[Any] | None:
        """What a combo accepts; None when it is no combo or the server fills it in later."""
        if self.type == "COMFY_DYNAMICCOMBO_V3":
            return [option["key"] for option in self.options["options"]]
        if self.type != "COMBO" or "remote" in self.options:
            return None
        choices: list[Any] = self.options.get("options", [])
        return choices


def is_link(value: Any) -> bool:
    """Whether an API input is wired to another node rather than a literal."""
    return isinstance(value, list)


def origin_of(value: Any) -> tuple[str, int] | None:
    """The node and output slot that a well-formed link names."""
    if isinstance(value, list) and len(value) == 2:
        node_id, slot = value
        if isinstance(node_id, str) and isinstance(slot, int):
            return node_id, slot
    return None


def title_of(node: Mapping[str, Any]) -> str:
    """The node's title on the canvas, or its class."""
    title: str = (node.get("_meta") or {}).get("title") or node["class_type"]
    return title


def node_specs(schema: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Spec]:
    """Every input that a node with these values has, growing and switching ones included."""
    return dict(_sections(schema["input"], inputs, ""))


def _sections(
    sections: Mapping[str, Any], inputs: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Spec]]:
    for section in ("required", "optional"):
        for name, declared in sections.get(section, {}).items():
            yield from _expand(prefix + name, declared, section == "required", inputs)


def _expand(
    name: str, declared: Any, required: bool, inputs: Mapping[str, Any]
) -> Iterator[tuple[str, Spec]]:
    kind = declared[0]
    options: Mapping[str, Any] = declared[1] if len(declared) > 1 and isinstance(declared[1], dict) else {}
    if kind == "COMFY_AUTOGROW_V3":
        yield from _grown(name, options["template"], inputs)
    elif kind == "COMFY_DYNAMICSLOT_V3":
        yield name, Spec(options["slotType"], options, required)
        if name in inputs:
            yield from _sections(options["inputs"], inputs, f"{name}.")
    elif isinstance(kind, list):
        yield name, Spec("COMBO", {**options, "options": kind}, required)
    else:
        yield name, Spec(options.get("widgetType") or kind, options, required)
        if kind == "COMFY_DYNAMICCOMBO_V3":
            for option in options["options"]:
                if option["key"] == inputs.get(name):
                    yield from _sections(option["inputs"], inputs, f"{name}.")


def _grown(name: str, template: Mapping[str, Any], inputs: Mapping[str, Any]) -> Iterator[tuple[str, Spec]]:
    names = template.get("names") or [f"{template['prefix']}{i}" for i in range(template["max"])]
    section, declared = next((key, value) for key, value in template["input"].items() if value)
    for position, suffix in enumerate(names):
        full = f"{name}.{suffix}"
        required = section == "required" and position < template["min"]
        if required or full in inputs:
            yield from _expand(full, next(iter(declared.values())), required, inputs)
