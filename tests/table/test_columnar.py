"""parquet."""

from __future__ import annotations

import datetime
import decimal
import sys

import pytest

from promptmill.errors import TableError
from promptmill.table import open_table

pyarrow = pytest.importorskip("pyarrow")


@pytest.fixture
def parquet(tmp_path):
    def parquet(**columns):
        path = tmp_path / "t.parquet"
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        return path

    import pyarrow.parquet

    return parquet


def test_seeds_are_exact_in_every_integer_type(parquet):
    path = parquet(
        id=["a", "b"],
        u=pyarrow.array([2**64 - 1, None], pyarrow.uint64()),
        i=pyarrow.array([2**63 - 1, -(2**63)], pyarrow.int64()),
        d=pyarrow.array([decimal.Decimal(2**64 - 1), None], pyarrow.decimal128(20, 0)),
    )

    first, second = open_table(path).rows()

    assert first.fields == {"id": "a", "u": str(2**64 - 1), "i": str(2**63 - 1), "d": str(2**64 - 1)}
    assert second.fields == {"id": "b", "u": "", "i": str(-(2**63)), "d": ""}
    assert (first.line, second.line) == (1, 2)


def test_float_columns_with_whole_numbers_and_nulls(parquet):
    path = parquet(id=["a", "b", "c"], seed=[7.0, None, float("nan")], cfg=[7.5, 0.1 + 0.2, 1e-7])

    assert [(row.fields["seed"], row.fields["cfg"]) for row in open_table(path).rows()] == [
        ("7", "7.5"),
        ("", "0.30000000000000004"),
        ("", "1e-07"),
    ]


def test_float_that_may_have_lost_digits_is_a_fault(parquet, faults):
    (fault,) = faults(open_table(parquet(id=["a", "b"], seed=[7.0, float(2**63)])))

    assert fault.startswith("t.parquet row 2, column seed: a whole number of more than 15 digits")


def test_other_types(parquet):
    path = parquet(
        id=["a"], on=[True], when=[datetime.date(2026, 5, 1)], style=pyarrow.array(["x"]).dictionary_encode()
    )

    (row,) = open_table(path).rows()

    assert row.fields == {"id": "a", "on": "true", "when": "2026-05-01", "style": "x"}


def test_nested_and_binary_cells_are_faults(parquet, faults):
    table = open_table(parquet(id=["a", "b"], x=[[1], None], y=[None, b"x"]))

    assert [fault.split(":")[0] for fault in faults(table)] == [
        "t.parquet row 1, column x",
        "t.parquet row 2, column y",
    ]


def test_many_rows_over_many_batches(parquet):
    path = parquet(id=[str(n) for n in range(2500)], prompt=["x"] * 2500)

    assert [row.line for row in open_table(path).rows()] == list(range(1, 2501))


def test_header_only(parquet):
    with pytest.raises(TableError, match="column names, but no rows"):
        open_table(parquet(id=pyarrow.array([], pyarrow.string())))


@pytest.mark.parametrize("content", [b"", b"id,prompt\na,b\n", b"PAR1 damaged PAR1"])
def test_files_that_are_no_parquet(read, content):
    with pytest.raises(TableError, match="not a parquet file that can be read"):
        read(content, "t.parquet")


def test_without_pyarrow_the_fix_is_named(parquet, monkeypatch):
    path = parquet(id=["a"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(TableError) as caught:
        open_table(path)

    assert caught.value.hint == "pip install pyarrow"
