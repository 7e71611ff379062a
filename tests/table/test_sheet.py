"""xlsx."""

from __future__ import annotations

import datetime
import sys
import zipfile

import openpyxl
import pytest

from promptmill.errors import TableError
from promptmill.table import open_table


@pytest.fixture
def sheet(tmp_path):
    """A workbook whose first sheet has these rows."""

    def sheet(*rows, more=()):
        workbook = openpyxl.Workbook()
        for row in rows:
            workbook.active.append(row)
        for title in more:
            workbook.create_sheet(title)
        path = tmp_path / "t.xlsx"
        workbook.save(path)
        return path

    return sheet


def test_cells_are_text_as_the_user_sees_them(sheet):
    header = ["id", "a", "b", "c", "d", "e", "f", "g"]
    when = datetime.datetime(2026, 5, 1, 8, 30)
    path = sheet(header, ["007", 7, 7.0, 0.1 + 0.2, True, datetime.date(2026, 5, 1), when, None])

    (row,) = open_table(path).rows()

    assert list(row.fields.values()) == [
        "007",
        "7",
        "7",
        "0.3",
        "true",
        "2026-05-01",
        "2026-05-01T08:30:00",
        "",
    ]
    assert row.line == 2


def test_number_formats_of_zeros_keep_leading_zeros(sheet):
    path = sheet(["id"], [7])
    workbook = openpyxl.load_workbook(path)
    workbook.active["A2"].number_format = "00000"
    workbook.save(path)

    assert next(open_table(path).rows()).id == "00007"


def test_whole_numbers_beyond_15_digits_are_a_fault(sheet, faults):
    table = open_table(
        sheet(["id", "seed"], ["a", 10**15 - 1], ["b", 10**15], ["c", 2.0**60], ["d", str(2**64 - 1)])
    )

    assert [fault.split(":")[0] for fault in faults(table)] == [
        "t.xlsx row 3, column 2",
        "t.xlsx row 4, column 2",
    ]
    assert "store the column as text" in faults(table)[0]


def test_blank_rows_and_columns_around_the_table(sheet):
    path = sheet([None, None], ["id", "prompt", None], [None, None], ["a", "x", None, None], ["b"])

    assert [(row.number, row.line, row.fields) for row in open_table(path).rows()] == [
        (1, 4, {"id": "a", "prompt": "x"}),
        (2, 5, {"id": "b", "prompt": ""}),
    ]


def test_cells_beyond_the_header_are_a_fault(sheet, faults):
    (fault,) = faults(open_table(sheet(["id"], ["a", None, "stray"])))

    assert fault.startswith("t.xlsx row 2: the row has 3 cells, the header has 1 columns")


def test_formula_without_a_stored_result_is_a_fault(sheet, faults):
    (fault,) = faults(open_table(sheet(["id", "prompt"], ["a", "=A2&1"], ["b", "x"])))

    assert fault.startswith("t.xlsx row 2, column 2: the formula's result is not in the file (found '=A2&1')")


def test_formula_counts_by_its_stored_result(sheet):
    path = sheet(["id", "prompt"], ["a", "=1+1"])
    changed = path.with_name("calculated.xlsx")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "xl/worksheets/sheet1.xml":
                assert b"<f>1+1</f><v />" in content or b"<f>1+1</f><v></v>" in content
                content = content.replace(b"<v />", b"<v>2</v>").replace(b"<v></v>", b"<v>2</v>")
            new.writestr(name, content)

    assert next(open_table(changed).rows()).fields["prompt"] == "2"


def test_error_values_are_a_fault(sheet, faults):
    (fault,) = faults(open_table(sheet(["id", "prompt"], ["a", "#N/A"])))

    assert "row 2, column 2: the cell holds an error of the spreadsheet (found '#N/A')" in fault


def test_only_the_first_sheet_is_read_and_that_is_said(sheet):
    assert open_table(sheet(["id"], ["a"], more=["old"])).notes == ["sheet 'Sheet'; 1 more not read"]


def test_a_wrong_size_in_the_file_hides_no_rows(sheet):
    path = sheet(["id", "prompt"], ["a", "x"], ["b", "y"])
    changed = path.with_name("wrong.xlsx")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "xl/worksheets/sheet1.xml":
                assert b'ref="A1:B3"' in content
                content = content.replace(b'ref="A1:B3"', b'ref="A1"')
            new.writestr(name, content)

    assert [row.fields["prompt"] for row in open_table(changed).rows()] == ["x", "y"]


def test_an_empty_sheet(sheet):
    with pytest.raises(TableError, match="the table is empty"):
        open_table(sheet())
    with pytest.raises(TableError, match="column names, but no rows"):
        open_table(sheet(["id"]))


@pytest.mark.parametrize(
    "content", [b"", b"id,prompt\na,b\n", b"PK\x03\x04 damaged", b"\xd0\xcf\x11\xe0 password"]
)
def test_files_that_are_no_workbook(read, content):
    with pytest.raises(TableError, match="not an xlsx file that can be read"):
        read(content, "t.xlsx")


def test_without_openpyxl_the_fix_is_named(sheet, monkeypatch):
    path = sheet(["id"], ["a"])
    monkeypatch.setitem(sys.modules, "openpyxl", None)

    with pytest.raises(TableError) as caught:
        open_table(path)

    assert caught.value.hint == "pip install openpyxl"
