from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from promptmill.errors import Problems
from promptmill.table import Table, open_table

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str | bytes, encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write


@pytest.fixture
def read(write: Write) -> Callable[..., Table]:
    """A table of this content, opened."""

    def read(content: str | bytes, name: str = "t.csv", *, stored: str = "utf-8", **options: str) -> Table:
        return open_table(write(name, content, stored), **options)

    return read


@pytest.fixture
def faults() -> Callable[[Table], list[str]]:
    """Everything that is wrong with a table's rows."""

    def faults(table: Table) -> list[str]:
        problems = Problems()
        list(table.rows(problems))
        return [str(problem) for problem in problems]

    return faults
