"""What fills what: the user's words first, then columns called like addresses, then the usual ones."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import Problems, PromptmillError, TableError, WorkflowError
from ...table import Table, Template
from ..recipe import Recipe
from ..workflow import Graph, Target

ROLES = ("prompt", "negative", "width", "height", "steps", "cfg")
"""Known columns that are bound without being asked; the seed always is."""


@dataclass(frozen=True)
class Binding:
    """A target in the workflow and the template that fills it."""

    target: Target
    address: str
    template: str
    automatic: bool


def as_field(name: str) -> str:
    """The template that is nothing but one field."""
    return "{" + name + "}"


def bindings_of(recipe: Recipe, table: Table, graph: Graph) -> list[Binding]:
    """Bind a recipe and a table's columns to a workflow's inputs; an input is bound once.

    :raises PromptmillError: addresses that match no input or several, all together; or nothing is bound at all.
    """
    bound: dict[Target, Binding] = {}
    problems = Problems()

    def bind(address: str, template: str, *, automatic: bool = False, again: bool = False) -> None:
        try:
            target = graph.find(address)
        except PromptmillError as error:
            problems.add(error)
            return
        if again or target not in bound:
            bound[target] = Binding(target, address, template, automatic)

    for address, template in recipe.bindings.items():
        bind(address, template, again=True)
    for column in table.columns:
        if _looks_like_an_address(column, graph):
            bind(column, as_field(column))
    roles = graph.automatic()
    for role in ROLES:
        if role in table.known or role in recipe.defaults:
            for target in roles.get(role, ()):
                bind(str(target), as_field(role), automatic=True)
    problems.raise_if_any()
    filled = any(Template(binding.template).names for binding in bound.values() if not binding.automatic)
    if not filled and not graph.tables and not any(target in bound for target in roles.get("prompt", ())):
        _refuse_unbound(recipe, table)
    if "negative" in table.known and not any(target in bound for target in roles.get("negative", ())):
        column = table.known["negative"]
        table.notes.append(f"column {column!r} is not used: the workflow has no negative prompt")
    return list(bound.values())


def _refuse_unbound(recipe: Recipe, table: Table) -> None:
    if "prompt" not in table.known:
        raise TableError(
            "no column holds the prompt",
            where=str(table.path),
            value=", ".join(table.columns),
            hint="call a column prompt or 提示词, or bind one: "
            f"--set 'Positive Prompt.text={as_field(table.columns[0])}'",
        )
    raise WorkflowError(
        "no input for the prompt was found",
        where=str(recipe.workflow),
        hint=f"see `promptmill inspect {recipe.workflow}` and bind one: --set 'ADDRESS={{prompt}}'",
    )


def _looks_like_an_address(column: str, graph: Graph) -> bool:
    head, dot, name = column.rpartition(".")
    return bool(dot and head) and (
        head.startswith("#") or any(name in node["inputs"] for node in graph.api.values())
    )
