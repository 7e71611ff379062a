"""What rows are called, and that no two are called the same."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from promptmill.errors import Problems, TableError
from promptmill.table import Duplicates
from promptmill.table.ids import by_content, numbered


def ids(table):
    return [row.id for row in table.rows()]


def test_id_comes_before_sku(read):
    assert ids(read("sku,id,prompt\na,1,x\nb,2,y\n")) == ["1", "2"]
    assert ids(read("prompt,货号\nx,a\ny,b\n")) == ["a", "b"]


def test_ids_are_trimmed_and_composed_in_the_row_as_well(read):
    (row,) = read("id,prompt\n cafe\u0301 ,x \n").rows()

    assert row.id == "caf\u00e9"
    assert row.fields == {"id": "caf\u00e9", "prompt": "x "}


@pytest.mark.parametrize("blank", ["", "  ", "\u3000"])
def test_a_blank_id_is_a_fault_of_its_row(read, faults, blank):
    table = read(f"id,prompt\n1,x\n{blank},y\n3,z\n")

    (fault,) = faults(table)

    assert fault.startswith("t.csv line 3, column id: the row has no id")


def test_duplicate_ids_name_all_their_lines(read, faults):
    table = read("sku,prompt\na,1\nb,2\n a,3\ncafe\u0301,4\nb,5\ncaf\u00e9,6\na,7\nc,8\n")

    assert [fault.split("\n")[0] for fault in faults(table)] == [
        "t.csv: 3 rows have the same id: lines 2, 4, 8 (found 'a')",
        "t.csv: 2 rows have the same id: lines 3, 6 (found 'b')",
        "t.csv: 2 rows have the same id: lines 5, 7 (found 'café')",
    ]


def test_duplicate_ids_are_raised_behind_the_last_row_without_problems(read):
    rows = read("id\na\nb\na\n").rows()

    assert [next(rows).id for _ in range(3)] == ["a", "b", "a"]
    with pytest.raises(TableError, match="lines 2, 4"):
        next(rows)


def test_a_column_of_one_id_is_one_short_fault(read, faults):
    (fault,) = faults(read("id,prompt\n" + "a,x\n" * 1000))

    assert "1000 rows have the same id: lines 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ... (found 'a')" in fault


def test_content_ids_do_not_depend_on_column_order_name_or_blank_columns(read):
    first = ids(read("prompt,style,seed\ncafe\u0301,b,\n"))

    assert ids(read("style,提示词,note\nb,caf\u00e9,\n")) == first
    assert ids(read("style,note\nb,caf\u00e9\n")) != first


def test_content_ids_are_the_same_in_every_process(read):
    assert ids(read("prompt\na red vase\n")) == ["0a808d91ce72cf10"]


def test_identical_rows_are_numbered(read):
    table = read("prompt\nx\ny\nx\nx\n")
    x, y, second, third = ids(table)

    assert (second, third) == (f"{x}-2", f"{x}-3")
    assert len({x, y}) == 2
    assert ids(table) == [x, y, second, third]


@given(st.lists(st.sampled_from("abcdef"), max_size=30), st.sampled_from("abcdef"))
def test_a_new_row_at_the_end_renames_none(rows, new):
    def content_ids(prompts):
        records = [[prompt] for prompt in prompts]
        identify = numbered(by_content(["prompt"], {}), records)()
        return [identify(record) for record in records]

    assert content_ids([*rows, new])[: len(rows)] == content_ids(rows)


def test_faults_of_cells_and_duplicates_come_together(read):
    problems = Problems()

    rows = list(read("id,seed\na,1e5\nb,1\nb,2\n").rows(problems))

    assert [row.id for row in rows] == ["b", "b"]
    assert problems.total == 2


def test_ids_that_only_share_a_hash_are_no_duplicates(read, faults, monkeypatch):
    monkeypatch.setattr(Duplicates, "of", staticmethod(lambda key: 7))

    (fault,) = faults(read("id\na\nb\nc\nb\n"))

    assert "lines 3, 5 (found 'b')" in fault


@given(st.lists(st.text(max_size=3)))
def test_duplicates_suspects_all_repeated_keys_and_no_other(keys):
    duplicates = Duplicates()
    for key in keys:
        duplicates.add(key)

    assert duplicates.suspects() == {Duplicates.of(key) for key in keys if keys.count(key) > 1}
