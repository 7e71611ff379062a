"""csv that we write."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from unicodedata import normalize

import hypothesis.strategies as st
import pytest
from hypothesis import given

from promptmill.table import export_csv, open_table

CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\t\r\n\",;='"), max_size=20)
COLUMN = CELL.map(lambda text: normalize("NFC", f"x{text}")).filter(str.isalnum)


@given(st.data())
def test_what_the_exporter_writes_the_reader_reads_back_equal(data):
    columns = ["prompt", *data.draw(st.lists(COLUMN, max_size=3, unique_by=str.casefold))]
    cells = st.fixed_dictionaries({column: CELL for column in columns})
    rows = data.draw(
        st.lists(cells.filter(lambda row: "".join(row.values()).strip()), min_size=1, max_size=5)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.csv")
        export_csv(path, columns, rows)

        table = open_table(path)

        assert [row.fields for row in table.rows()] == rows


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_formulas_are_escaped_for_spreadsheets_only(tmp_path, start):
    path = tmp_path / "t.csv"
    rows = [{"id": "1", "prompt": f"{start}HYPERLINK()"}, {"id": "2", "prompt": f"a{start}b"}]

    export_csv(path, ["id", "prompt"], rows, for_spreadsheet=True)
    with path.open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file))[1:] == [["1", f"'{start}HYPERLINK()"], ["2", f"a{start}b"]]

    export_csv(path, ["id", "prompt"], rows)
    assert [row.fields for row in open_table(path).rows()] == rows


def test_excel_sees_utf8(tmp_path):
    export_csv(tmp_path / "t.csv", ["提示词"], [{"提示词": "花瓶"}])

    assert (tmp_path / "t.csv").read_bytes() == b"\xef\xbb\xbf" + "提示词\r\n花瓶\r\n".encode()


def test_missing_cells_are_blank_and_others_left_out(tmp_path):
    export_csv(tmp_path / "t.csv", ["a", "b"], [{"a": "1", "c": "3"}])

    assert (tmp_path / "t.csv").read_text("utf-8-sig").splitlines() == ["a,b", "1,"]


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "t.csv"
    export_csv(path, ["a"], [{"a": "old"}])

    def rows():
        yield {"a": "new"}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        export_csv(path, ["a"], rows())

    assert [row.fields for row in open_table(path).rows()] == [{"a": "old"}]
    assert list(tmp_path.iterdir()) == [path]


def test_text_cut_inside_an_emoji_is_written(tmp_path):
    export_csv(tmp_path / "t.csv", ["error"], [{"error": "bad \ud83d"}])

    assert "bad \\ud83d" in (tmp_path / "t.csv").read_text("utf-8-sig")
