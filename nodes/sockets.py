"""What flows between the nodes of this pack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from ..table import Job, Jobs

CATEGORY = "promptmill"


@dataclass(frozen=True, slots=True)
class PromptTableValue:
    """A checked table: its jobs, and the folder below ComfyUI's output folder where their images go."""

    jobs: Jobs
    count: int
    folder: str


@dataclass(frozen=True, slots=True)
class RowsValue:
    """One or more jobs in the order of their images."""

    jobs: tuple[Job, ...]
    folder: str


@dataclass(frozen=True, slots=True)
class EncodedValue:
    """The conditionings of rows, one each in ComfyUI's form, and the rows' seeds."""

    positive: list[Any]
    negative: list[Any]
    seeds: list[int]


TableSocket = io.Custom("PROMPTMILL_TABLE")
RowsSocket = io.Custom("PROMPTMILL_ROWS")
EncodedSocket = io.Custom("PROMPTMILL_ENCODED")
