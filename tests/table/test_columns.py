"""The header and what its columns mean."""

from __future__ import annotations

import pytest

from promptmill.errors import Problems, TableError


@pytest.mark.parametrize(
    ("column", "meaning"),
    [
        ("PROMPT", "prompt"),
        (" 提示词 ", "prompt"),
        ("Negative Prompt", "negative"),
        ("negative_prompt", "negative"),
        ("负面提示词", "negative"),
        ("种子", "seed"),
        ("宽", "width"),
        ("宽度", "width"),
        ("高度", "height"),
        ("步数", "steps"),
        ("CFG", "cfg"),
        ("文件名", "filename"),
        ("编号", "id"),
        ("货号", "sku"),
    ],
)
def test_known_columns(read, column, meaning):
    table = read(f"{column},KSampler.cfg\n1,2\n")

    assert table.known == {meaning: column.strip()}
    assert next(table.rows()).fields == {column.strip(): "1", "KSampler.cfg": "2"}


def test_names_are_composed(read):
    table = read("caf\u0065\u0301,id\n1,2\n")

    assert table.columns == ("caf\u00e9", "id")


def test_all_faults_of_a_header_together(read):
    with pytest.raises(Problems) as caught:
        read("a,prompt,a ,提示词,x\x01\n1,2,3,4,5\n")

    assert [problem.message for problem in caught.value] == [
        "columns 1 and 3 have the same name",
        "columns 'prompt' and '提示词' both mean 'prompt'",
        "a control character (U+0001) at position 2 of the cell",
    ]
    assert "t.csv line 1" in str(caught.value)


def test_columns_without_a_name_must_be_blank(read, faults):
    table = read("id,,prompt,\na,,x,\nb,,y,z\n")

    assert table.columns == ("id", "prompt")
    assert next(table.rows()).fields == {"id": "a", "prompt": "x"}
    assert [fault.split(" (found")[0] for fault in faults(table)] == [
        "t.csv line 3, column 4: the column has no name"
    ]


def test_a_header_of_nothing(read):
    with pytest.raises(TableError, match="no column has a name"):
        read(",,\n1,2,3\n")
