"""From a table and a workflow to jobs: what goes where, under which name, with which seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ...errors import (
    FileNameError,
    Problems,
    PromptmillError,
    RecipeError,
    TableError,
    TemplateError,
    WorkflowError,
)
from ...table import (
    SEED_MAX,
    Duplicates,
    Row,
    Selection,
    Table,
    Template,
    check_name,
    derive_seed,
    name_key,
    parse_seed,
)
from ..ledger.records import PlannedJob
from ..output import OWN_FILES, OWN_FOLDERS
from ..recipe import Recipe
from ..workflow import Graph, Target, checker, model_inputs
from .bindings import Binding, as_field, bindings_of

EXTRA_NAMES = ("row", "id", "variant", "index", "seed")
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif"})


@dataclass(frozen=True, slots=True)
class Resolved:
    """One row × variant with its values: not yet a record."""

    row: Row
    variant: int
    names: tuple[str, ...]
    values: dict[Target, Any]
    seed: int | None


@dataclass(frozen=True)
class _Filler:
    binding: Binding
    render: Callable[[Mapping[str, str], Mapping[str, object]], str]
    check: Callable[[Any], Any]
    required: bool
    keeps_blank: bool
    own_value: Any
    """The workflow's, for rows that leave it as it is."""


class Plan:
    """The jobs that a recipe makes of a table, on servers that see ``graph``.

    :raises PromptmillError: an address, a template or the naming pattern cannot be used with this table.
    """

    def __init__(
        self,
        recipe: Recipe,
        table: Table,
        graph: Graph,
        *,
        selection: Selection | None = None,
        limit: int | None = None,
    ) -> None:
        if recipe.variants < 1:
            raise RecipeError("at least one variant is needed", value=recipe.variants, hint="--variants 1")
        self.recipe = recipe
        self.table = table
        self.graph = graph
        self._selection = selection
        self._limit = limit
        self._columns = list(dict.fromkeys([*table.columns, *recipe.defaults]))
        self._known = table.known
        self._roles = graph.automatic()
        self.bindings = bindings_of(recipe, table, graph)
        self._fillers = [self._filler(binding) for binding in self.bindings]
        self._seeds = self._seed_fillers()
        self._name = self._compile(Template(self.pattern()))
        self._workflow = recipe.workflow_sha256()
        images = graph.images_per_job({})
        self._images = images or 1
        self.counted = images is not None
        self._batch_bound = any(
            binding.target in self._roles.get("batch_size", ()) for binding in self.bindings
        )
        self._models = [
            target
            for target in sorted({binding.target for binding in self.bindings}, key=str)
            if target in model_inputs(graph)
        ]
        self._suffix_checked = all(saver.class_type == "SaveImage" for saver in graph.savers())

    def pattern(self) -> str:
        """The naming pattern in force."""
        if self.recipe.name is not None:
            return self.recipe.name
        has_id = bool({"id", "sku"} & self._known.keys())
        own = self._known.get("filename")
        if own is None and not has_id:
            own = next((column for column in self.table.columns if column.lower() == "name"), None)
        if own is not None:
            return as_field(own) if self.recipe.variants == 1 else as_field(own) + "_{variant}"
        return "{id}_{variant}.png"

    def automatic(self) -> dict[str, str]:
        """Address to template of the bindings that were found by themselves."""
        found = {binding.address: binding.template for binding in self.bindings if binding.automatic}
        return found | {str(target): "{seed}" for target, _ in self._seeds}

    def targets(self) -> list[Target]:
        """Every input that a job may set."""
        return [binding.target for binding in self.bindings] + [target for target, _ in self._seeds]

    def resolved(self, problems: Problems) -> Iterator[Resolved]:
        """Every selected row × variant with checked values and names. Streams; adds what is wrong to ``problems``."""
        seen = Duplicates()
        taken = 0
        for row in self._rows(problems):
            taken += 1
            try:
                for variant in range(1, self.recipe.variants + 1):
                    job = self._resolve(row, variant, problems)
                    if job is None:
                        break
                    for name in job.names:
                        seen.add(name_key(name))
                    yield job
            except PromptmillError as error:
                problems.add(self._placed(error, row, ""))
        if not taken and not problems.total:
            problems.add(TableError("no row is selected", where=str(self.table.path), hint="--rows 1-20"))
        if suspects := seen.suspects():
            self._report_collisions(suspects, problems)

    def jobs(self, problems: Problems) -> Iterator[PlannedJob]:
        """The same as records for the ledger."""
        for job in self.resolved(problems):
            yield self._record(job)

    # Fillers

    def _compile(self, template: Template) -> Callable[[Mapping[str, str], Mapping[str, object]], str]:
        return template.compile(self._columns, self._known, EXTRA_NAMES)

    def _filler(self, binding: Binding) -> _Filler:
        own_value = self.graph.api[binding.target.node_id]["inputs"][binding.target.input]
        try:
            render = self._compile(Template(binding.template))
        except TemplateError as error:
            error.where = error.where or binding.address
            raise
        check = checker(self.graph, binding.target)
        if not Template(binding.template).names and not binding.automatic:
            self._check_constant(binding, render({}, {}), check)
        is_prompt = binding.automatic and binding.target in self._roles.get("prompt", ())
        return _Filler(
            binding,
            render,
            check,
            required=is_prompt,
            keeps_blank=isinstance(own_value, str)
            and not binding.automatic
            and binding.address not in self.table.columns,
            own_value=own_value,
        )

    @staticmethod
    def _check_constant(binding: Binding, text: str, check: Callable[[Any], Any]) -> None:
        """Said once, at the binding, instead of at every row."""
        try:
            check(text)
        except PromptmillError as error:
            error.where = binding.address
            raise

    def _seed_fillers(self) -> list[tuple[Target, Callable[[Any], Any]]]:
        explicit = {binding.target for binding in self.bindings}
        targets = [target for target in self._roles.get("seed", ()) if target not in explicit]
        if not targets and self.recipe.variants > 1 and "seed" not in self._used_names():
            raise WorkflowError(
                "the workflow has no seed to change, so all variants would be the same image",
                where=str(self.recipe.workflow),
                value=f"--variants {self.recipe.variants}",
                hint="--variants 1, or bind the seed: --set 'ADDRESS={seed}'",
            )
        limits = [info.options.get("max", SEED_MAX) for info in self.graph.inputs() if info.target in targets]
        self._seed_limit = min(limits, default=SEED_MAX)
        return [(target, checker(self.graph, target)) for target in targets]

    def _used_names(self) -> set[str]:
        return {name for binding in self.bindings for name in Template(binding.template).names}

    # Rows into jobs

    def _rows(self, problems: Problems) -> Iterator[Row]:
        taken = 0
        for row in self.table.rows(problems):
            if self._selection is not None and row.number not in self._selection:
                continue
            if taken == self._limit:
                return
            taken += 1
            if self.recipe.defaults:
                filled = {key: text for key, text in row.fields.items() if text}
                fields = {**row.fields, **self._default_fields(), **filled}
                row = Row(row.number, row.line, row.id, fields)
            yield row

    def _default_fields(self) -> dict[str, str]:
        return {self._known.get(key, key): value for key, value in self.recipe.defaults.items()}

    def _resolve(self, row: Row, variant: int, problems: Problems) -> Resolved | None:
        before = problems.total
        seed = self._seed(row, variant)
        extra: dict[str, object] = {
            "row": row.number,
            "id": row.id,
            "variant": variant,
            "index": (variant - 1) * self._images + 1,
            "seed": seed,
        }
        values: dict[Target, Any] = {}
        for filler in self._fillers:
            try:
                text = filler.render(row.fields, extra)
                if text or filler.keeps_blank:
                    values[filler.binding.target] = filler.check(text)
                elif filler.required:
                    raise TableError("the prompt is blank", hint="write a prompt, or take the row out")
                else:
                    filler.check(filler.own_value)
            except PromptmillError as error:
                problems.add(self._placed(error, row, filler.binding.template))
        for target, check in self._seeds:
            values[target] = check(seed)
        images = self._images
        if self._batch_bound:
            images = self.graph.images_per_job(values) or 1
            extra["index"] = (variant - 1) * images + 1
        names = self._names(row, extra, images)
        return Resolved(row, variant, names, values, seed) if problems.total == before else None

    def _seed(self, row: Row, variant: int) -> int:
        column = self._known.get("seed")
        text = row.fields[column] if column else ""
        if text:
            return (parse_seed(text) + variant - 1) % (SEED_MAX + 1)
        return derive_seed(self.recipe.seed, row.id, variant) % (self._seed_limit + 1)

    def _names(self, row: Row, extra: dict[str, object], images: int) -> tuple[str, ...]:
        first = extra["index"]
        assert isinstance(first, int)
        names = []
        for number in range(images):
            name = self._name(row.fields, {**extra, "index": first + number} if number else extra)
            path = PurePosixPath(name)
            suffix = path.suffix.lower()
            if not path.name or path.name.startswith("."):
                raise FileNameError(
                    "the file name is blank", value=name, hint="is a column of the pattern empty?"
                )
            if path.parts[0] in OWN_FOLDERS or name in OWN_FILES:
                raise FileNameError(
                    "this name is kept for the run's own files", value=name, hint="--name PATTERN"
                )
            if any(PurePosixPath(part).suffix.lower() in IMAGE_SUFFIXES for part in path.parts[:-1]):
                raise FileNameError(
                    "a folder may not be called like an image", value=name, hint="--name PATTERN"
                )
            if suffix not in IMAGE_SUFFIXES:
                name, suffix = name + ".png", ".png"
            if suffix != ".png" and self._suffix_checked:
                raise FileNameError(
                    "SaveImage writes PNG files, and images are kept as they come",
                    value=name,
                    hint="end the pattern with .png",
                )
            if name in names:
                stem = name[: -len(suffix)]
                name = f"{stem}_{number + 1}{suffix}"
            names.append(check_name(name))
        return tuple(names)

    def _placed(self, error: PromptmillError, row: Row, template: str) -> PromptmillError:
        column = f", {template}" if template else ""
        error.where = f"{self.table.path.name} line {row.line}{column}"
        return error

    def _report_collisions(self, suspects: set[int], problems: Problems) -> None:
        lines: dict[str, list[int]] = {}
        shown: dict[str, str] = {}
        for row in self._rows(Problems()):
            for variant in range(1, self.recipe.variants + 1):
                job = self._resolve(row, variant, Problems())
                for name in job.names if job else ():
                    key = name_key(name)
                    if Duplicates.of(key) in suspects:
                        lines.setdefault(key, []).append(row.line)
                        shown.setdefault(key, name)
        for key, found in lines.items():
            if len(found) > 1:
                problems.add(
                    FileNameError(
                        "several images would have the same file name",
                        where=f"{self.table.path.name} lines {', '.join(map(str, found[:10]))}",
                        value=shown[key],
                        hint='make names differ: --name "{id}_{variant}.png"',
                    )
                )

    def _record(self, job: Resolved) -> PlannedJob:
        inputs = {str(target): value for target, value in job.values.items()}
        content = json.dumps([self._workflow, inputs, job.names], sort_keys=True, ensure_ascii=False)
        return PlannedJob(
            row_id=job.row.id,
            variant=job.variant,
            digest=hashlib.blake2b(content.encode(), digest_size=16).hexdigest(),
            row_number=job.row.number,
            line=job.row.line,
            names=job.names,
            name_key=name_key(job.names[0]),
            inputs=inputs,
            prompt=self._text_of("prompt", job),
            negative=self._text_of("negative", job),
            seed=job.seed if self._seeds or "seed" in self._used_names() else None,
            model_key=json.dumps([job.values.get(target) for target in self._models]),
        )

    def _text_of(self, role: str, job: Resolved) -> str:
        for target in self._roles.get(role, ()):
            if target in job.values:
                return str(job.values[target])
        column = self._known.get(role)
        return job.row.fields[column] if column else ""
