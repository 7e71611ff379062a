"""The one exception tree. A class's docstring is its default message; its code never changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

SHOWN_AT_ONCE = 20


class PromptmillError(Exception):
    """Something went wrong."""

    code = "error"
    exit_code = 2

    def __init__(
        self,
        message: str | None = None,
        *,
        where: str = "",
        value: Any = None,
        hint: str = "",
    ) -> None:
        """
        :param message: what is wrong and what would be right; the class docstring when omitted.
        :param where: the place, as the user knows it: ``products.csv line 7, column seed``.
        :param value: what was found there.
        :param hint: what to type or change next.
        """
        self.message = message or (type(self).__doc__ or "").strip()
        self.where = where
        self.value = value
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        found = "" if self.value is None else f" (found {_short(self.value)})"
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{place}{self.message}{found}{hint}"

    def as_dict(self) -> dict[str, Any]:
        """The error as ``--json`` prints it."""
        found = None if self.value is None else _short(self.value)
        return {
            "error": self.code,
            "message": self.message,
            "where": self.where,
            "value": found,
            "hint": self.hint,
        }


class TableError(PromptmillError):
    """The table cannot be used."""

    code = "table"


class TemplateError(PromptmillError):
    """The template cannot be used."""

    code = "template"


class FileNameError(PromptmillError):
    """The file name cannot be used."""

    code = "name"


class WorkflowError(PromptmillError):
    """The workflow cannot be used."""

    code = "workflow"


class AddressError(PromptmillError):
    """The address does not name exactly one input."""

    code = "address"


class ValueRefused(PromptmillError):
    """The server would refuse this value."""

    code = "value"


class RecipeError(PromptmillError):
    """The recipe cannot be used."""

    code = "recipe"


class CheckpointError(PromptmillError):
    """The checkpoint cannot be used."""

    code = "checkpoint"


class SamplingError(PromptmillError):
    """The rows cannot be sampled as one exact batch."""

    code = "sampling"


class OutputError(PromptmillError):
    """The output folder cannot be used."""

    code = "output"


class ServerError(PromptmillError):
    """The server cannot be used."""

    code = "server"
    exit_code = 3


class Problems(PromptmillError):
    """Several things are wrong."""

    code = "problems"

    def __init__(self, problems: Iterable[PromptmillError] = ()) -> None:
        self.shown: list[PromptmillError] = []
        self.total = 0
        super().__init__()
        for problem in problems:
            self.add(problem)

    def add(self, problem: PromptmillError) -> None:
        """Keep the first 20, count the rest."""
        if isinstance(problem, Problems):
            self.total += problem.total
            self.shown.extend(problem.shown[: SHOWN_AT_ONCE - len(self.shown)])
            return
        self.total += 1
        if len(self.shown) < SHOWN_AT_ONCE:
            self.shown.append(problem)

    def raise_if_any(self) -> None:
        """Raise the only problem itself, or all of them together."""
        if self.total == 1:
            raise self.shown[0]
        if self.total:
            raise self

    def __iter__(self) -> Iterator[PromptmillError]:
        return iter(self.shown)

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.shown]
        if self.total > len(self.shown):
            lines.append(f"... and {self.total - len(self.shown)} more")
        return "\n".join(lines)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:80] + f"... ({len(text)} characters)"
