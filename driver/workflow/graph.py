"""A workflow as one server sees it: what can be set, and the graph of a row."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

from ...errors import AddressError, Problems, WorkflowError
from . import outputs, pack, roles, validate
from .canvas import Canvas
from .flow import Flow
from .outputs import Saver
from .pack import PromptTable
from .schema import Api, ObjectInfo, Spec, Target, is_link, origin_of, title_of

MODEL_OUTPUTS = frozenset(
    {"MODEL", "CLIP", "VAE", "CONTROL_NET", "CLIP_VISION", "STYLE_MODEL", "MODEL_PATCH", "UPSCALE_MODEL"}
)


@dataclass(frozen=True, slots=True)
class InputInfo:
    """An input that can be set, for ``inspect``; ``addresses`` are those that name it alone."""

    target: Target
    class_type: str
    title: str
    value: Any
    addresses: tuple[str, ...]
    type: str
    options: Mapping[str, Any]


class Graph:
    """An API graph, the /object_info it is judged by, and the UI graph it came from if there is one.

    :raises WorkflowError: the nodes feed each other in a circle.
    """

    def __init__(self, api: Api, object_info: ObjectInfo, ui: dict[str, Any] | None = None) -> None:
        self.api = api
        self.object_info = object_info
        self.ui = ui
        self._flow = Flow(api, object_info)
        wired = {
            node_id: [origin[0] for value in node["inputs"].values() if (origin := origin_of(value))]
            for node_id, node in api.items()
        }
        try:
            TopologicalSorter(wired).prepare()
        except CycleError as error:
            raise WorkflowError(
                "the nodes feed each other in a circle",
                where="node " + " -> ".join(f"#{node_id}" for node_id in error.args[1]),
                hint="open the workflow on the canvas and cut one of these links",
            ) from error

    def specs(self, node_id: str) -> dict[str, Spec]:
        """The declared inputs of a node; empty when the server does not know its class."""
        return self._flow.specs(node_id)

    # Addresses

    @cached_property
    def _addresses(self) -> dict[str, list[Target]]:
        found: dict[str, list[Target]] = {}
        for node_id, node in self.api.items():
            for head in dict.fromkeys((title_of(node), f"#{node_id}", node["class_type"])):
                for name in node["inputs"]:
                    found.setdefault(f"{head}.{name}", []).append(Target(node_id, name))
        return found

    def inputs(self) -> list[InputInfo]:
        """Every input that can be set, in the order of the graph.

        These are the literals, and links from a node that computes their value of its own widgets
        (``value`` is then the link): see ``find``.
        """
        names: dict[Target, list[str]] = {}
        for address, targets in self._addresses.items():
            if len(targets) == 1:
                names.setdefault(targets[0], []).append(address)
        found = []
        for node_id, node in self.api.items():
            for name, value in node["inputs"].items():
                target = Target(node_id, name)
                if not self._settable(target):
                    continue
                spec = self.specs(node_id).get(name)
                found.append(
                    InputInfo(
                        target,
                        node["class_type"],
                        title_of(node),
                        value,
                        tuple(names[target]),
                        spec.type if spec else "",
                        spec.options if spec else {},
                    )
                )
        return found

    def find(self, address: str) -> Target:
        """The input that ``Title.input``, ``#id.input`` or ``ClassName.input`` names.

        :raises AddressError: none or several have that address, or a link decides its value.
        """
        targets = self._addresses.get(address.strip(), [])
        if len(targets) != 1:
            raise self._not_one(address, targets)
        if not self._settable(targets[0]):
            raise self._linked(address, targets[0])
        return targets[0]

    def _settable(self, target: Target) -> bool:
        return not is_link(self._literal(target)) or self._flow.holder(target.node_id, target.input) == target

    def _not_one(self, address: str, targets: list[Target]) -> AddressError:
        if targets:
            listed = ", ".join(f"{target} ({title_of(self.api[target.node_id])})" for target in targets[:10])
            return AddressError(
                f"names {len(targets)} inputs: {listed}",
                where=f"address {address}",
                hint=f"say which: {self._set(targets[0])}",
            )
        lower = {known.lower(): known for known in self._addresses}
        close = [lower[name] for name in get_close_matches(address.lower(), lower, n=5, cutoff=0.5)]
        return AddressError(
            "names no input" + (f"; close to it: {', '.join(close)}" if close else ""),
            where=f"address {address}",
            hint=self._set(self._addresses[close[0]][0]) if close else "see: promptmill inspect WORKFLOW",
        )

    def _linked(self, address: str, target: Target) -> AddressError:
        origin, _ = origin_of(self._literal(target)) or ("?", 0)
        spec = self.specs(target.node_id).get(target.input)
        driver = None
        if spec is None or spec.is_widget or spec.type == "STRING":
            find = self._flow.text if spec and spec.type == "STRING" else self._flow.holder
            driver = find(target.node_id, target.input)
        came = f"#{origin} ({title_of(self.api[origin])})" if origin in self.api else f"#{origin}"
        return AddressError(
            f"is not a value but a link from {came}" + (f"; the value is {driver}" if driver else ""),
            where=f"address {address}",
            hint=self._set(driver) if driver else "see: promptmill inspect WORKFLOW",
        )

    def _set(self, target: Target) -> str:
        spec = self.specs(target.node_id).get(target.input)
        column = "prompt" if spec and spec.type == "STRING" else target.input.rpartition(".")[2]
        return f"--set '{target}={{{column}}}'"

    def _literal(self, target: Target) -> Any:
        return self.api[target.node_id]["inputs"][target.input]

    # What is found without any binding

    def automatic(self) -> dict[str, tuple[Target, ...]]:
        """The inputs of each role: prompt, negative, seed, steps, cfg, width, height, batch_size, denoise, row.

        Only roles that were found; several inputs where one row's value goes to several nodes.
        """
        ends = [node_id for node_id in self.api if outputs.is_output(self._flow, node_id)]
        found = roles.automatic(self._flow, ends or list(self.api))
        tables = tuple(table.text for table in self.tables)
        return {**found, "row": tables} if tables else found

    @cached_property
    def tables(self) -> list[PromptTable]:
        """This project's Prompt Tables; each takes the whole row."""
        return pack.prompt_tables(self._flow)

    def one_row(self, rows: Mapping[Target, Mapping[str, str]]) -> dict[Target, Any]:
        """The inputs that make each of those tables hold one row; ``rows``: by ``PromptTable.text``."""
        return pack.one_row(self._flow, rows)

    def savers(self) -> tuple[Saver, ...]:
        """The nodes that write images.

        :raises WorkflowError: there are none, so that nothing could be fetched.
        """
        return outputs.savers(self._flow)

    def images_per_job(self, values: Mapping[Target, Any]) -> int | None:
        """How many files one execution with ``values`` writes; None when it cannot be told."""
        return outputs.images_per_job(self._flow, self._savers, values)

    def expected_size(self, values: Mapping[Target, Any]) -> tuple[int, int] | None:
        """Width and height in pixels of every image made with ``values``; None unless it is certain."""
        return outputs.expected_size(self._flow, self._savers, values)

    @cached_property
    def _savers(self) -> tuple[Saver, ...]:
        return self.savers()

    def check(self, bound: Container[Target] = ()) -> Problems:
        """Everything that the server would refuse in the graph as it is."""
        return validate.check(self._flow, bound)

    # A row's graph

    @cached_property
    def _canvas(self) -> Canvas | None:
        return Canvas(self.ui, self.object_info) if self.ui is not None else None

    def inject(self, values: Mapping[Target, Any], prefix: str | None) -> tuple[Api, dict[str, Any] | None]:
        """The API graph with ``values`` (and ``prefix`` in every saver), and the UI graph that shows them.

        The UI graph is None where there was none or a value has no widget: never one with other values.
        This graph is not changed; what did not change is shared with it.
        """
        canvas = self._canvas
        changes = dict(values)
        if canvas:
            targets = frozenset(values)
            for target, value in values.items():
                for driven in canvas.drives(targets, target):
                    changes.setdefault(driven, value)
        api = self._with(self.api, changes)
        ui = canvas.fill(values, api) if canvas else None
        if prefix is not None:
            api = self._with(api, {saver.prefix: prefix for saver in self._savers})
        return api, ui

    @staticmethod
    def _with(api: Api, changes: Mapping[Target, Any]) -> Api:
        by_node: dict[str, dict[str, Any]] = {}
        for target, value in changes.items():
            by_node.setdefault(target.node_id, {})[target.input] = value
        changed = {
            node_id: {**api[node_id], "inputs": {**api[node_id]["inputs"], **new}}
            for node_id, new in by_node.items()
        }
        return {**api, **changed}

    def ui_gaps(self, targets: Iterable[Target]) -> list[Target]:
        """The targets whose values cannot be shown on the canvas; then images carry the API graph only."""
        return self._canvas.gaps(frozenset(targets)) if self._canvas else []


def model_inputs(graph: Graph) -> frozenset[Target]:
    """The choices of nodes that load models: rows that agree on them are kept together."""
    return frozenset(
        Target(node_id, name)
        for node_id in graph.api
        if MODEL_OUTPUTS & set(graph._flow.outputs(node_id))
        for name, spec in graph.specs(node_id).items()
        if spec.type == "COMBO" and name in graph.api[node_id]["inputs"]
    )
