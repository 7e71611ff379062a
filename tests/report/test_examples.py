"""The tables in samples/ are what a newcomer is told they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptmill.table import open_table

EXAMPLES = Path(__file__).parents[2] / "samples"


def test_the_gbk_table_holds_the_same_rows_as_the_utf8_one() -> None:
    utf8, gbk = open_table(EXAMPLES / "products.csv"), open_table(EXAMPLES / "products_gbk.csv")

    assert (utf8.encoding, gbk.encoding) == ("utf-8", "gb18030")
    rows = [row.fields for row in utf8.rows()]
    assert [row.fields for row in gbk.rows()] == rows
    assert len(rows) == 24
    assert list(rows[0]) == ["sku", "name", "style", "prompt"]
    assert rows[0]["name"] == "红色马克杯"


@pytest.mark.parametrize(("name", "rows"), [("prompts.txt", 8), ("styles.jsonl", 6)])
def test_the_other_tables_have_a_prompt_in_every_row(name: str, rows: int) -> None:
    table = open_table(EXAMPLES / name)

    prompts = [row.fields[table.known["prompt"]] for row in table.rows()]

    assert len(prompts) == rows
    assert all(prompts)
