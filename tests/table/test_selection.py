"""--rows."""

from __future__ import annotations

import pytest

from promptmill.errors import TableError
from promptmill.table import Selection


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1", [1]), ("1-3,5", [1, 2, 3, 5]), (" 2 - 3 , 1 ", [1, 2, 3]), ("4-4,3-5", [3, 4, 5])],
)
def test_numbers_and_ranges(text, numbers):
    selection = Selection.parse(text)

    assert [number for number in range(10) if number in selection] == numbers


@pytest.mark.parametrize(
    "text", ["", " ", "0", "0-3", "3-1", "1-", "-3", "a", "1,,2", "1;2", "1.5", "１", "1-2-3", "9" * 5000]
)
def test_bad_text(text):
    with pytest.raises(TableError, match="rows: not row numbers") as caught:
        Selection.parse(text)

    assert caught.value.hint == "1-20,35"


def test_ranges_that_overlap_or_touch_are_one():
    selection = Selection.parse("9,1-3,2-5,6-7,4")

    assert [number for number in range(12) if number in selection] == [1, 2, 3, 4, 5, 6, 7, 9]
    assert len(selection.ranges) == 2
