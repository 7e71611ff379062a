"""Everything that is checked before the first job: servers, workflow, table, names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import PromptmillError, ServerError
from ...table import Selection, open_table
from ..comfy import ComfyClient
from ..recipe import Recipe, load_recipe
from ..workflow import load_workflow
from .plan import Plan

DEFAULT_SERVER = "http://127.0.0.1:8188"


@dataclass(frozen=True)
class Request:
    """What a user asks for; None leaves the word to the recipe."""

    table: Path
    workflow: Path
    """A workflow, or a recipe (.toml)."""
    servers: tuple[str, ...] = (DEFAULT_SERVER,)
    name: str | None = None
    variants: int | None = None
    seed: int | None = None
    bindings: Mapping[str, str] = field(default_factory=dict)
    allow_blank: bool | None = None
    rows: str | None = None
    limit: int | None = None
    encoding: str | None = None
    delimiter: str | None = None

    def recipe(self) -> Recipe:
        """The recipe with this request's words in it."""
        return load_recipe(self.workflow).changed(
            name=self.name,
            variants=self.variants,
            seed=self.seed,
            bindings=dict(self.bindings) or None,
            allow_blank=self.allow_blank,
        )


@dataclass(frozen=True)
class Prepared:
    """A request that can be run: at least one server takes every selected row."""

    recipe: Recipe
    plan: Plan
    clients: tuple[ComfyClient, ...]
    left_out: dict[str, str]
    """Server to the reason why it gets no jobs."""
    jobs: int
    whole: bool
    """No selection: rows that are not here have left the table."""


def prepare(request: Request, tell: Callable[[str], None] = lambda message: None) -> Prepared:
    """Check servers, workflow, bindings, every selected row and every name. Queues and writes nothing.

    :param tell: takes remarks for the user, a line each.
    :raises ServerError: no server can be reached.
    :raises PromptmillError: something in the table, workflow or recipe is wrong; all of it together.
    """
    recipe = request.recipe()
    workflow = load_workflow(recipe.workflow)
    table = open_table(request.table, encoding=request.encoding, delimiter=request.delimiter)
    selection = Selection.parse(request.rows) if request.rows else None
    for note in table.notes:
        tell(note)
    left_out: dict[str, str] = {}
    groups = _by_answer(request.servers, left_out)
    usable: list[ComfyClient] = []
    chosen: Plan | None = None
    jobs = 0
    refusals: list[PromptmillError] = []
    for clients, object_info in groups:
        try:
            graph = workflow.graph(object_info)
            plan = Plan(recipe, table, graph, selection=selection, limit=request.limit)
            problems = graph.check(set(plan.targets()))
            problems.raise_if_any()
            count = sum(1 for _ in plan.resolved(problems))
            problems.raise_if_any()
        except PromptmillError as error:
            refusals.append(error)
            left_out.update({client.url: str(error) for client in clients})
            continue
        if chosen is None:
            chosen, jobs = plan, count
        usable += clients
    if chosen is None:
        raise refusals[0]
    for url, reason in left_out.items():
        tell(f"{url} is left out: {reason}")
    for target in chosen.graph.ui_gaps(binding.target for binding in chosen.bindings):
        tell(
            f"{target} has no widget of its own: it is set, but not shown when an image is dropped on the canvas"
        )
    return Prepared(
        recipe, chosen, tuple(usable), left_out, jobs, whole=selection is None and request.limit is None
    )


def _by_answer(
    urls: tuple[str, ...], left_out: dict[str, str]
) -> list[tuple[list[ComfyClient], dict[str, Any]]]:
    """The servers that answer, those together that know the same nodes and models."""
    groups: list[tuple[list[ComfyClient], dict[str, Any]]] = []
    errors: list[ServerError] = []
    for client in {client.url: client for client in map(ComfyClient, urls)}.values():
        try:
            object_info = client.object_info()
        except ServerError as error:
            errors.append(error)
            left_out[client.url] = error.message
            continue
        for clients, known in groups:
            if known == object_info:
                clients.append(client)
                break
        else:
            groups.append(([client], object_info))
    if not groups:
        raise ServerError(
            "no ComfyUI server answers",
            value=", ".join(left_out),
            hint="start ComfyUI there (python main.py), or name the server that runs: --server http://HOST:8188",
        ) from errors[0]
    return groups
