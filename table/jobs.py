"""Rows into jobs: one image each, with everything about it that the table decides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from ..errors import Problems, PromptmillError, TableError
from .filter import Filter
from .naming import Names, default_pattern, image_name
from .seeds import SEED_MAX, derive_seed, parse_seed
from .selection import Selection
from .table import Row, Table
from .template import Template

EXTRA_NAMES = ("row", "id", "variant", "index", "seed")
"""What a template may use beside the columns."""

WHOLE = {"width": (16, 16384), "height": (16, 16384), "steps": (1, 10000)}
CFG = (0.0, 100.0)
VARIANTS = 1000
"""The most images of a row."""

CELL = 8
"""Pixels of an image to one of its latent: sizes between are cut by every sampler."""

AHEAD = 1000
"""Rows kept by ``find``: asking for all rows of a table one by one reads it once per so many, and keeps no file open."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a row's own columns say of how to sample it; None where blank. ``width`` and ``height`` are pixels."""

    width: int | None = None
    height: int | None = None
    steps: int | None = None
    cfg: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One row × variant."""

    row: Row
    variant: int
    """Counts from 1."""
    seed: int
    prompt: str
    negative: str
    file: str
    """Where its image goes, relative to the output folder, with ``/`` on every system."""
    settings: Settings = field(default_factory=Settings)

    @property
    def digest(self) -> str:
        """
        32 hexadecimal digits of all that the table decides about the image: the same on the canvas and in the driver.
        """
        own = self.settings
        parts = [self.row.id, self.variant, self.seed, self.file, self.prompt, self.negative]
        content = json.dumps([*parts, own.width, own.height, own.steps, own.cfg], ensure_ascii=False)
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


class Jobs:
    """The jobs of a table, read anew at each pass, in constant memory."""

    def __init__(
        self,
        table: Table,
        *,
        prompt: str = "{prompt}",
        negative: str = "",
        name: str | None = None,
        seed: int = 0,
        variants: int = 1,
        selection: Selection | None = None,
        conditions: str = "",
    ) -> None:
        """
        :param prompt: template of the prompt.
        :param negative: template of the negative prompt of rows whose own column is blank or missing.
        :param name: pattern of the file names; None: ``default_pattern``.
        :param seed: base of the seeds of rows that give none.
        :param conditions: see ``Filter``.
        :raises PromptmillError: a template or a condition does not fit the table.
        """
        if not 1 <= variants <= VARIANTS:
            raise TableError(f"a row has 1 to {VARIANTS} variants", value=variants)
        self.table = table
        self.variants = variants
        self._ahead: dict[int, Row] = {}
        self._base = seed
        self._selection = selection
        self._chosen = Filter(conditions, table.columns, table.known)
        self._negative_column = table.known.get("negative")
        if prompt == "{prompt}" and "prompt" not in table.known:
            raise TableError(
                "no column holds the prompt",
                where=table.path.name,
                value=", ".join(table.columns),
                hint=f"call a column prompt or 提示词, or use a template: {{{table.columns[0]}}}",
            )
        pattern = name or default_pattern(table, variants)
        self._prompt, self._negative, self._name = (
            Template(text).compile(table.columns, table.known, EXTRA_NAMES)
            for text in (prompt, negative, pattern)
        )

    def __iter__(self) -> Iterator[Job]:
        """:raises PromptmillError: at the first faulty row."""
        for row in self._rows(None):
            for variant in range(1, self.variants + 1):
                yield self._job(row, variant)

    def check(self) -> int:
        """
        Go over all jobs once. Returns how many there are, at least one.

        :raises PromptmillError: all that is wrong, as Problems where there are several; no row is chosen; two images
            would have the same file name.
        """
        problems, names, count = Problems(), Names(), 0
        for job in self._sound(problems):
            names.add(job.file)
            count += 1
        for collision in names.collisions(
            self.table.path.name, lambda: ((job.file, job.row.line) for job in self._sound(Problems()))
        ):
            problems.add(collision)
        problems.raise_if_any()
        if not count:
            raise TableError(
                "no row is chosen", where=self.table.path.name, hint="look at the row numbers and the filter"
            )
        return count

    def find(self, number: int, variant: int) -> Job:
        """
        The job of one row, by its number in the table.

        :raises TableError: the table has no such row, or the row is not chosen; there is no such variant.
        """
        if not 1 <= variant <= self.variants:
            raise TableError(f"variants count from 1 to {self.variants}", value=variant)
        if number not in self._ahead:
            rows = self._rows(None)
            found = next((row for row in rows if row.number >= number), None)
            self._ahead = (
                {row.number: row for row in (found, *islice(rows, AHEAD - 1)) if row} if found else {}
            )
        if number not in self._ahead:
            raise TableError(
                "there is no such row, or it is not chosen",
                where=self.table.path.name,
                value=number,
                hint=f"the last chosen row is {max((row.number for row in self._rows(None)), default=0)}",
            )
        return self._job(self._ahead[number], variant)

    def _rows(self, problems: Problems | None) -> Iterator[Row]:
        for row in self.table.rows(problems):
            if (self._selection is None or row.number in self._selection) and self._chosen(row.fields):
                yield row

    def _sound(self, problems: Problems) -> Iterator[Job]:
        for row in self._rows(problems):
            try:
                jobs = [self._job(row, variant) for variant in range(1, self.variants + 1)]
            except PromptmillError as error:
                problems.add(error)
            else:
                yield from jobs

    def _job(self, row: Row, variant: int) -> Job:
        try:
            seed = row_seed(row, self.table.known, self._base, variant)
            extra = {"row": row.number, "id": row.id, "variant": variant, "index": variant, "seed": seed}
            prompt = self._prompt(row.fields, extra)
            if not prompt.strip():
                raise TableError("the prompt is blank", hint="write a prompt, or take the row out")
            negative = row.fields[self._negative_column] if self._negative_column else ""
            return Job(
                row,
                variant,
                seed,
                prompt,
                negative or self._negative(row.fields, extra),
                image_name(self._name(row.fields, extra), png=True),
                row_settings(row, self.table.known),
            )
        except PromptmillError as error:
            error.where = f"{self.table.path.name} line {row.line}" + (
                f", {error.where}" if error.where else ""
            )
            raise


def row_seed(row: Row, known: Mapping[str, str], base: int, variant: int, limit: int = SEED_MAX) -> int:
    """
    The row's own seed, counted up by variant, or one derived from (base, id, variant).

    :param limit: the largest seed that is taken, for derived ones.
    """
    column = known.get("seed")
    text = row.fields[column] if column else ""
    if text:
        return (parse_seed(text) + variant - 1) % (SEED_MAX + 1)
    return derive_seed(base, row.id, variant) % (limit + 1)


def row_settings(row: Row, known: Mapping[str, str]) -> Settings:
    """
    Size, steps and cfg as the row's columns give them.

    :raises TableError: not a number, or out of range.
    """
    values: dict[str, int | float] = {}
    for name in ("width", "height", "steps", "cfg"):
        text = row.fields[known[name]].strip() if name in known else ""
        if text:
            values[name] = _number(name, text)
    return Settings(**values)  # type: ignore[arg-type]


def _number(name: str, text: str) -> int | float:
    low, high = WHOLE.get(name, CFG)
    try:
        value = int(text) if name in WHOLE else float(text)
    except ValueError:
        value = low - 1
    sized = name in ("width", "height")
    if low <= value <= high and not (sized and value % CELL):
        return value
    kind = f"a multiple of {CELL}" if sized else "a whole number" if name in WHOLE else "a number"
    raise TableError(f"{name} is {kind} from {low} to {high}", where=f"column {name}", value=text)
