"""What every format gives the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from ..errors import TableError

Record = tuple[int, "list[str] | TableError"]
"""The place where a record starts, and its cells or what is wrong with it."""


class Source(Protocol):
    """A file in one format."""

    @property
    def unit(self) -> str:
        """What a place counts: line, row or item."""

    @property
    def header(self) -> Sequence[str]:
        """The column names as they stand in the file."""

    @property
    def header_place(self) -> int:
        """Where they stand."""

    @property
    def notes(self) -> list[str]:
        """What was detected."""

    def records(self) -> Iterator[Record]:
        """Every record below the header, from the start at each call; blank ones may be among them."""
