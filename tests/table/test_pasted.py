"""Given pasted text, expect a table in the format that it looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptmill.errors import TableError
from promptmill.table import open_table, pasted_table


@pytest.mark.parametrize(
    ("text", "format", "rows"),
    [
        ("a red mug, on oak\na bowl\n", "txt", 2),
        ("a single line", "txt", 1),
        ("sku,prompt\nM1,a mug\n", "csv", 1),
        ("编号\t提示词\n1\t红杯\n2\t碗", "csv", 2),
        ('\n"id";"prompt"\n1;a mug\n', "csv", 1),
        ('{"prompt": "a mug"}\n{"prompt": "a bowl"}', "jsonl", 2),
        ('[\n {"prompt": "a mug"}]', "json", 1),
        ("[red] mug\n{a|b} mug", "txt", 2),
    ],
)
def test_the_format_is_told_by_the_first_line(tmp_path: Path, text: str, format: str, rows: int) -> None:
    table = open_table(pasted_table(text, tmp_path))

    assert table.format == format
    assert len(list(table.rows())) == rows


def test_the_same_text_is_the_same_file_and_another_text_another(tmp_path: Path) -> None:
    first = pasted_table("a mug", tmp_path)

    assert pasted_table("a mug\n", tmp_path) == first
    assert pasted_table("a bowl", tmp_path) != first
    assert first.read_text(encoding="utf-8") == "a mug\n"


def test_a_lone_surrogate_is_told(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="surrogate"):
        pasted_table("a \ud800 mug", tmp_path)
