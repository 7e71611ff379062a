"""A recipe: workflow, bindings, defaults and naming, as one TOML file that a team shares."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..errors import RecipeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPE_FILE = "recipe.toml"


@dataclass(frozen=True)
class Recipe:
    """Everything a run needs but its table, servers and output folder."""

    workflow: Path
    """The workflow file; a relative path in a recipe counts from the recipe's folder."""
    name: str | None = None
    """The naming pattern; None: the table's own file names, else ``{id}_{variant}.png``."""
    variants: int = 1
    """Images asked for each row."""
    seed: int = 0
    """The base of the seeds of rows that give none."""
    bindings: Mapping[str, str] = field(default_factory=dict)
    """Address to template, beyond those found by themselves."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """Column to the text that stands in for a blank cell or a missing column."""
    allow_blank: bool = False
    """Accept images of one single colour."""
    on_cancel: str = "retry"
    """What to do when somebody cancels a prompt at the server: ``retry`` or ``mark``."""

    def changed(self, **given: Any) -> Recipe:
        """The recipe with every value of ``given`` that is not None in its place."""
        changes = {name: value for name, value in given.items() if value is not None}
        if "bindings" in changes:
            changes["bindings"] = {**self.bindings, **changes["bindings"]}
        return replace(self, **changes)

    def workflow_sha256(self) -> str:
        """The hash of the workflow's content; of JSON without regard to white space and key order."""
        content = self.workflow.read_bytes()
        if self.workflow.suffix.lower() == ".json":
            content = json.dumps(json.loads(content), sort_keys=True).encode()
        return hashlib.sha256(content).hexdigest()

    def fingerprint(self) -> str:
        """What makes two runs the same: the workflow and all that shapes names and inputs."""
        shape = [self.workflow_sha256(), self.name, self.seed, dict(self.bindings), dict(self.defaults)]
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()


def load_recipe(path: Path) -> Recipe:
    """A recipe from a TOML file, or one that holds nothing but the workflow at ``path``.

    :raises RecipeError: unreadable, not TOML, an unknown key, or a value of the wrong type.
    """
    if not path.is_file():
        raise RecipeError(
            "there is no such workflow or recipe", value=str(path), hint="-w workflows/text_to_image.json"
        )
    if path.suffix.lower() != ".toml":
        return Recipe(workflow=path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"this is not TOML in UTF-8: {error}", where=str(path)) from error
    document.pop("automatic", None)
    types: dict[str, type] = {
        "workflow": str,
        "name": str,
        "variants": int,
        "seed": int,
        "bindings": dict,
        "defaults": dict,
        "allow_blank": bool,
        "on_cancel": str,
    }
    for key, value in document.items():
        if key not in types:
            close = get_close_matches(key, types, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "known keys: " + ", ".join(types)
            raise RecipeError("unknown key", where=str(path), value=key, hint=hint)
        if type(value) is not types[key]:
            raise RecipeError(f"{key} must be a {types[key].__name__}", where=str(path), value=value)
    if "workflow" not in document:
        raise RecipeError("the recipe names no workflow", where=str(path), hint='workflow = "workflow.json"')
    if document.get("on_cancel", "retry") not in ("retry", "mark"):
        raise RecipeError('on_cancel is "retry" or "mark"', where=str(path), value=document["on_cancel"])
    for table in ("bindings", "defaults"):
        document[table] = {key: _text(value, table, path) for key, value in document.get(table, {}).items()}
    workflow = path.parent / document.pop("workflow")
    if not workflow.is_file():
        raise RecipeError("the recipe's workflow is not there", where=str(path), value=str(workflow))
    return Recipe(workflow=workflow, **document)


def write_resolved(out: Path, recipe: Recipe, automatic: Mapping[str, str]) -> None:
    """Write the recipe and its workflow into ``out``; running that recipe repeats this run.

    :param automatic: address to template of the bindings that were found by themselves, for the reader.
    """
    import tomli_w

    copy = out / f"workflow{recipe.workflow.suffix.lower()}"
    if not copy.exists() or not copy.samefile(recipe.workflow):
        shutil.copyfile(recipe.workflow, copy)
    document: dict[str, Any] = {
        key.name: value for key in fields(recipe) if (value := getattr(recipe, key.name)) not in (None, {})
    }
    document["workflow"] = copy.name
    document["automatic"] = dict(automatic)
    text = (
        "# Written by promptmill. [automatic] only shows what was found by itself; move a line to\n"
        "# [bindings] to change it.\n" + tomli_w.dumps(document)
    )
    part = out / ".promptmill-recipe.part"
    part.write_text(text, encoding="utf-8")
    part.replace(out / RECIPE_FILE)


def _text(value: Any, table: str, path: Path) -> str:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    hint = 'put an address in quotes: "KSampler.cfg" = 7' if isinstance(value, dict) else ""
    raise RecipeError(f"values in [{table}] are texts or numbers", where=str(path), value=value, hint=hint)
