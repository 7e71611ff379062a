"""Follow links upstream through an API graph, to the literal that drives an input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .schema import Api, ObjectInfo, Spec, Target, is_link, node_specs, origin_of, title_of

# Under what names nodes that only hold a value call it (PrimitiveInt.value, Seed.seed, Int.int ...).
HOLDERS = ("value", "seed", "noise_seed", "int", "float", "number", "text", "string")
TEXT_TYPES = frozenset({"STRING", "*", "COMFY_MATCHTYPE_V3"})
NOT_TEXT = frozenset({"find", "delimiter", "regex_pattern", "key", "system_prompt"})
INSTRUCTION_TITLE = re.compile(r"system|template|instruct|enhanc|rewrit|系统|模板|指令", re.I)
INSTRUCTION_TEXT = re.compile(r"\s*(<\||<s>|\[?system|you are |你是)", re.I)
PROMPT_TITLE = re.compile(r"prompt|user|text|提示|用户", re.I)


class Flow:
    """Read-only questions about what feeds what."""

    def __init__(self, api: Api, object_info: ObjectInfo) -> None:
        self.api = api
        self.object_info = object_info
        self._specs: dict[str, dict[str, Spec]] = {}

    def specs(self, node_id: str) -> dict[str, Spec]:
        """The declared inputs of a node; empty when the server does not know its class."""
        if node_id not in self._specs:
            node = self.api[node_id]
            schema = self.object_info.get(node["class_type"])
            self._specs[node_id] = node_specs(schema, node["inputs"]) if schema else {}
        return self._specs[node_id]

    def outputs(self, node_id: str) -> list[str]:
        """The types of a node's outputs."""
        schema = self.object_info.get(self.api[node_id]["class_type"])
        return list(schema["output"]) if schema else []

    def links(self, node_id: str) -> list[str]:
        """The names of a node's inputs that are wired."""
        return [name for name, value in self.api[node_id]["inputs"].items() if is_link(value)]

    def source(self, node_id: str, name: str) -> tuple[str, int] | None:
        """The node and output slot that feed an input, behind any If/Else switches; None for a literal."""
        link = origin_of(self.api[node_id]["inputs"].get(name))
        if link is None or link[0] not in self.api:
            return None
        origin, slot = link
        if self.api[origin]["class_type"] == "ComfySwitchNode":
            return self.source(origin, self._branch(origin)) or (origin, slot)
        return origin, slot

    def _branch(self, switch: str) -> str:
        held = self.holder(switch, "switch")
        on = held is not None and self.api[held.node_id]["inputs"][held.input]
        return "on_true" if on is True else "on_false"

    def upstream(self, starts: Iterable[str]) -> list[str]:
        """``starts`` and all nodes that feed them, nearest first."""
        found = dict.fromkeys(starts)
        queue = list(found)
        for node_id in queue:
            for name in self.links(node_id):
                origin = self.source(node_id, name)
                if origin and origin[0] not in found:
                    found[origin[0]] = None
                    queue.append(origin[0])
        return queue

    def holder(self, node_id: str, name: str) -> Target | None:
        """The input to set so that ``name`` of ``node_id`` becomes a given number, text or choice.

        That is a literal: its own or an upstream primitive's. Where the value comes out of a node that
        makes several values of its own widgets (ResolutionSelector), it is the last input before that
        node, whose link a value replaces. None where the value is computed from something else.
        """
        if name not in self.api[node_id]["inputs"]:
            return None
        origin = self.source(node_id, name)
        if origin is None:
            return None if is_link(self.api[node_id]["inputs"][name]) else Target(node_id, name)
        inputs = self.api[origin[0]]["inputs"]
        for candidate in (name, *HOLDERS):
            if candidate in inputs:
                return self.holder(origin[0], candidate)
        links = self.links(origin[0])
        if not links:
            spec = self.specs(node_id).get(name)
            return Target(node_id, name) if spec and spec.is_widget else None
        operands = [link for link in links if link.startswith("values.")]
        return self.holder(origin[0], operands[0]) if len(operands) == 1 else None

    def text(self, node_id: str, name: str) -> Target | None:
        """The literal that holds the user's own words behind a text input, system prompts passed over."""
        leaves = list(dict.fromkeys(self._texts(node_id, name)))
        return max(enumerate(leaves), key=lambda leaf: (*self._rank(leaf[1]), leaf[0]))[1] if leaves else None

    def _texts(self, node_id: str, name: str) -> Iterator[Target]:
        origin = self.source(node_id, name)
        if origin is None:
            if isinstance(self.api[node_id]["inputs"].get(name), str):
                yield Target(node_id, name)
            return
        specs = self.specs(origin[0])
        for upstream in self.api[origin[0]]["inputs"]:
            spec = specs.get(upstream)
            if spec and spec.type in TEXT_TYPES and upstream not in NOT_TEXT:
                yield from self._texts(origin[0], upstream)

    def _rank(self, leaf: Target) -> tuple[bool, ...]:
        node = self.api[leaf.node_id]
        title = title_of(node)
        return (
            not self.links(leaf.node_id),
            not INSTRUCTION_TITLE.search(title),
            not INSTRUCTION_TEXT.match(node["inputs"][leaf.input]),
            bool(PROMPT_TITLE.search(title)),
        )

    def chain(self, node_id: str, names: Iterable[str], kind: str) -> Iterator[str]:
        """Walk from inputs of one type (LATENT, SIGMAS, MODEL) to the node where that chain begins."""
        for name in names:
            origin = self.source(node_id, name)
            if origin:
                yield origin[0]
                yield from self.chain(origin[0], self.of_type(origin[0], kind), kind)

    def of_type(self, node_id: str, kind: str) -> list[str]:
        """A node's wired inputs of one type."""
        specs = self.specs(node_id)
        return [name for name in self.links(node_id) if name in specs and specs[name].type == kind]

    def number(self, node_id: str, name: str, values: Mapping[Target, Any]) -> Any:
        """What a numeric input will be under ``values``; None when it is computed and so not certain."""
        target = Target(node_id, name)
        if target in values:
            return values[target]
        origin = self.source(node_id, name)
        if origin is None:
            value = self.api[node_id]["inputs"].get(name)
            return None if is_link(value) else value
        if self.api[origin[0]]["class_type"] in ("PrimitiveInt", "PrimitiveFloat"):
            return self.number(origin[0], "value", values)
        return None
