"""A row as the text of a Prompt Table: its templates filled as the canvas would fill them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...errors import TableError
from ...table import Row
from ..workflow import PromptTable, Target

Filled = Callable[[Mapping[str, str], Mapping[str, object]], str]


@dataclass(frozen=True)
class Pasting:
    """One Prompt Table of the workflow, with its templates bound to the columns of the driver's table."""

    table: PromptTable
    known: Mapping[str, str]
    fill_prompt: Filled
    fill_negative: Filled

    @property
    def target(self) -> Target:
        """Where the row is pasted."""
        return self.table.text

    def texts(self, row: Row, extra: Mapping[str, object]) -> tuple[str, str]:
        """The row's prompt and negative prompt in effect.

        :raises TableError: the prompt is blank.
        """
        prompt = self.fill_prompt(row.fields, extra)
        if not prompt.strip():
            raise TableError("the prompt is blank", hint="write a prompt, or take the row out")
        column = self.known.get("negative")
        own = row.fields[column] if column else ""
        return prompt, own or self.fill_negative(row.fields, extra)

    def fields(self, row: Row, seed: int, prompt: str, negative: str) -> dict[str, str]:
        """The row as a table of its own, with its id and all that is in effect."""
        own = {} if {"id", "sku"} & self.known.keys() else {"id": row.id}
        effect = {"prompt": prompt, "negative": negative, "seed": str(seed)}
        return {**own, **row.fields, **{self.known.get(name, name): text for name, text in effect.items()}}
