"""Seeds are exact or derived."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from promptmill.errors import Problems, TableError
from promptmill.table import SEED_MAX, derive_seed, export_csv, open_table, parse_seed

ROW_ID = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@pytest.mark.parametrize(("text", "seed"), [("0", 0), ("007", 7), (" 42 ", 42), (str(SEED_MAX), 2**64 - 1)])
def test_plain_digits(text, seed):
    assert parse_seed(text) == seed


@pytest.mark.parametrize(
    "text",
    [
        "1e5",
        "1.0",
        "-1",
        "+1",
        str(2**64),
        "9" * 5000,
        "１２",
        "٣",
        "1_000",
        "1,000",
        "0x10",
        "",
        " ",
        "1 2",
        "nan",
    ],
)
def test_everything_else_is_an_error_that_shows_it(text):
    with pytest.raises(TableError, match="a whole number from 0 to 18446744073709551615") as caught:
        parse_seed(text)

    assert caught.value.value == text


def test_a_bad_seed_names_line_and_column_and_a_blank_one_is_fine(read, faults):
    table = read("id,种子\na,\nb,  \nc,1e5\nd,7\n")

    assert [row.id for row in table.rows(Problems())] == ["a", "b", "d"]
    (fault,) = faults(table)
    assert fault.startswith("t.csv line 4, column 种子: a seed is a whole number")


def test_derived_seeds_stay_what_they_are():
    assert derive_seed(0, "A1", 1) == 7087478936026293
    assert derive_seed(0, "花瓶", 2) == 7076913211499005


@given(st.integers(0, SEED_MAX), ROW_ID, st.integers(1, 1000))
def test_derived_seeds_are_below_2_53(base, row_id, variant):
    assert 0 <= derive_seed(base, row_id, variant) < 2**53


@given(st.integers(0, 99), st.integers(0, 99), ROW_ID, ROW_ID, st.integers(1, 99), st.integers(1, 99))
def test_derived_seeds_differ_where_anything_differs(base, base2, row_id, row_id2, variant, variant2):
    same = (base, row_id, variant) == (base2, row_id2, variant2)

    assert (derive_seed(base, row_id, variant) == derive_seed(base2, row_id2, variant2)) == same


@given(
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=8, unique=True),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_a_seed_does_not_depend_on_the_other_rows(prompts, random, with_ids):
    def seeds(chosen):
        columns = ["id", "prompt"] if with_ids else ["prompt"]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "t.csv")
            export_csv(path, columns, [{"id": f"id {prompt}", "prompt": prompt} for prompt in chosen])
            return {row.fields["prompt"]: derive_seed(5, row.id, 1) for row in open_table(path).rows()}

    before = seeds(prompts)
    changed = random.sample(prompts, random.randint(1, len(prompts)))
    changed.insert(random.randint(0, len(changed)), "new row")
    after = seeds(changed)

    assert {prompt: after[prompt] for prompt in changed if prompt != "new row"} == {
        prompt: before[prompt] for prompt in changed if prompt != "new row"
    }
