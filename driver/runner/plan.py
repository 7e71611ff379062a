"""From a table and a workflow to jobs: what goes where, under which name, with which seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import (
    Problems,
    PromptmillError,
    RecipeError,
    TableError,
    TemplateError,
    WorkflowError,
)
from ...table import (
    EXTRA_NAMES,
    SEED_MAX,
    Job,
    Names,
    Row,
    Selection,
    Settings,
    Table,
    Template,
    check_name,
    default_pattern,
    image_name,
    name_key,
    row_seed,
    row_settings,
    stamp,
)
from ..ledger.records import PlannedJob
from ..recipe import Recipe
from ..workflow import Graph, PromptTable, Target, checker, model_inputs
from .bindings import Binding, bindings_of
from .pasting import Pasting


@dataclass(frozen=True, slots=True)
class Resolved:
    """One row × variant with its values: not yet a record."""

    row: Row
    variant: int
    names: tuple[str, ...]
    values: dict[Target, Any]
    seed: int
    prompt: str
    negative: str


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
        self._pastings = [self._pasting(table) for table in graph.tables]
        self._base_seed = recipe.seed or next((table.base_seed for table in graph.tables), 0)
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
        own = [table.file_name for table in self.graph.tables]
        return own[0] if len(own) == 1 and own[0] else default_pattern(self.table, self.recipe.variants)

    def automatic(self) -> dict[str, str]:
        """Address to template of the bindings that were found by themselves."""
        found = {binding.address: binding.template for binding in self.bindings if binding.automatic}
        seeds = {str(target): "{seed}" for target, _ in self._seeds}
        return found | seeds | {str(pasting.target): "the whole row" for pasting in self._pastings}

    def targets(self) -> list[Target]:
        """Every input that a job may set."""
        return (
            [binding.target for binding in self.bindings]
            + [target for target, _ in self._seeds]
            + [pasting.target for pasting in self._pastings]
        )

    def resolved(self, problems: Problems) -> Iterator[Resolved]:
        """Every selected row × variant with checked values and names. Streams; adds what is wrong to ``problems``."""
        seen = Names()
        taken = 0
        for row in self._rows(problems):
            taken += 1
            try:
                for variant in range(1, self.recipe.variants + 1):
                    job = self._resolve(row, variant, problems)
                    if job is None:
                        break
                    for name in job.names:
                        seen.add(name)
                    yield job
            except PromptmillError as error:
                problems.add(self._placed(error, row, ""))
        if not taken and not problems.total:
            problems.add(TableError("no row is selected", where=str(self.table.path), hint="--rows 1-20"))
        for collision in seen.collisions(self.table.path.name, self._all_names):
            problems.add(collision)

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
        if not (targets or self._pastings) and self.recipe.variants > 1 and "seed" not in self._used_names():
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
        seed = row_seed(row, self._known, self._base_seed, variant, self._seed_limit)
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
        prompt, negative = self._texts(row, values)
        if self._pastings:
            texts = [pasting.texts(row, extra) for pasting in self._pastings]
            prompt, negative = texts[0]
            values |= self.graph.one_row(
                {
                    pasting.target: pasting.fields(row, seed, *own)
                    for pasting, own in zip(self._pastings, texts, strict=True)
                }
            )
        images = self._images
        if self._batch_bound:
            images = self.graph.images_per_job(values) or 1
            extra["index"] = (variant - 1) * images + 1
        names = self._names(row, extra, images)
        if problems.total > before:
            return None
        return Resolved(row, variant, names, values, seed, prompt, negative)

    def _pasting(self, table: PromptTable) -> Pasting:
        templates = {binding.target: binding.template for binding in self.bindings}
        prompt, negative = (
            self._compile(Template(templates.get(Target(table.node_id, name), text)))
            for name, text in (("prompt", table.prompt), ("negative", table.negative))
        )
        return Pasting(table, self._known, prompt, negative)

    def _names(self, row: Row, extra: dict[str, object], images: int) -> tuple[str, ...]:
        first = extra["index"]
        assert isinstance(first, int)
        names = []
        for number in range(images):
            name = self._name(row.fields, {**extra, "index": first + number} if number else extra)
            name = image_name(name, png=self._suffix_checked)
            if name in names:
                stem, dot, suffix = name.rpartition(".")
                name = check_name(f"{stem}_{number + 1}{dot}{suffix}")
            names.append(name)
        return tuple(names)

    def _placed(self, error: PromptmillError, row: Row, template: str) -> PromptmillError:
        column = f", {template}" if template else ""
        error.where = f"{self.table.path.name} line {row.line}{column}"
        return error

    def _all_names(self) -> Iterator[tuple[str, int]]:
        for row in self._rows(Problems()):
            for variant in range(1, self.recipe.variants + 1):
                job = self._resolve(row, variant, Problems())
                for name in job.names if job else ():
                    yield name, row.line

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
            prompt=job.prompt,
            negative=job.negative,
            seed=job.seed if self._seeds or self._pastings or "seed" in self._used_names() else None,
            model_key=json.dumps([job.values.get(target) for target in self._models]),
            stamp=self._stamp(job),
        )

    def _stamp(self, job: Resolved) -> dict[str, Any]:
        try:
            settings = row_settings(job.row, self._known)
        except TableError:  # a column of this name may mean something else in this workflow
            settings = Settings()
        texts = job.prompt, job.negative
        return stamp(Job(job.row, job.variant, job.seed, *texts, job.names[0], settings))

    def _texts(self, row: Row, values: Mapping[Target, Any]) -> tuple[str, str]:
        """The prompt and the negative prompt that a row gives the workflow."""
        texts = []
        for role in ("prompt", "negative"):
            column = self._known.get(role)
            bound = [str(values[target]) for target in self._roles.get(role, ()) if target in values]
            texts.append(bound[0] if bound else row.fields[column] if column else "")
        return texts[0], texts[1]
