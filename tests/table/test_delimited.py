"""csv, tsv and txt."""

from __future__ import annotations

import re

import pytest

from promptmill.errors import Problems, TableError
from promptmill.table import open_table


def test_rows_keep_text_as_it_stands(read):
    table = read("id,prompt,note\n007,NA,1e5\n")

    (row,) = table.rows()

    assert (row.id, row.number, row.line) == ("007", 1, 2)
    assert row.fields == {"id": "007", "prompt": "NA", "note": "1e5"}
    assert table.columns == ("id", "prompt", "note")
    assert table.notes == []


@pytest.mark.parametrize(
    "prompt", ['=HYPERLINK("x")', "+1", "-1", "@me", "</script>", "👩‍👩‍👧 \u200f\u202eשלום", " a  "]
)
def test_prompts_are_literal(read, prompt):
    quoted = prompt.replace('"', '""')

    (row,) = read(f'prompt\n"{quoted}"\n').rows()

    assert row.fields["prompt"] == prompt


def test_quoted_newlines_and_quotes_are_kept_and_lines_counted(read):
    table = read('id,prompt\r\na,"one\r\ntwo ""2"""\r\n\r\nb,three\r\n')

    assert [(row.id, row.number, row.line, row.fields["prompt"]) for row in table.rows()] == [
        ("a", 1, 2, 'one\r\ntwo "2"'),
        ("b", 2, 5, "three"),
    ]


@pytest.mark.parametrize("delimiter", [";", "\t", "，", "|"])
def test_delimiter_is_detected_and_reported(read, delimiter):
    table = read(
        delimiter.join(["id", '"a,b,c,d"', "prompt"]) + "\n" + delimiter.join(["1", "x", "y, z"]) + "\n"
    )

    assert table.columns == ("id", "a,b,c,d", "prompt")
    assert next(table.rows()).fields["prompt"] == "y, z"
    assert table.delimiter == delimiter
    assert table.notes == [f"delimiter {delimiter!r}"]


def test_delimiter_is_detected_below_blank_lines(read):
    assert read("\n\r\na;b\n1;2\n").columns == ("a", "b")


def test_delimiter_can_be_named(read):
    table = read("id#prompt, long\n1#x\n", delimiter="#")

    assert table.columns == ("id", "prompt, long")


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n"])
def test_unusable_delimiter_is_an_error(read, delimiter):
    with pytest.raises(TableError, match="--delimiter: a delimiter is one character"):
        read("id\n1\n", delimiter=delimiter)


def test_blank_lines_and_blank_rows_are_skipped(read):
    table = read("\n\nid,prompt\n\n,\n   \na,b\n \t\n")

    assert [(row.number, row.line) for row in table.rows()] == [(1, 7)]


def test_unclosed_quote_names_the_line(read, faults):
    table = read('id,prompt\na,x\nb,"open\nc,y\nd,z\n')

    assert faults(table) == [
        "t.csv line 3: a quote is opened here and never closed (the record goes on to line 5)\n"
        '  hint: close it; a quote in text is ""'
    ]


def test_unclosed_quote_in_a_long_file_does_not_swallow_it_silently(read, faults):
    table = read('id,prompt\nb,"open\n' + "".join(f"{n},a red vase on a table\n" for n in range(10_000)))

    (fault,) = faults(table)

    assert fault.startswith(
        "t.csv line 2: a cell is far too long, or a quote is opened here and never closed"
    )


def test_text_after_a_closing_quote_is_a_fault_of_its_row_alone(read, faults):
    table = read('id,prompt\na,"5" pot"\nb,fine\nc,"6" pot"\n')

    assert [fault.split(":")[0] for fault in faults(table)] == ["t.csv line 2", "t.csv line 4"]


def test_ragged_rows_name_line_and_count(read, faults):
    table = read("id,prompt\na,b,c\nd,e\nf\n")

    assert [fault.split(" (found")[0] for fault in faults(table)] == [
        "t.csv line 2: the row has 3 cells, the header has 2 columns",
        "t.csv line 4: the row has 1 cells, the header has 2 columns",
    ]


def test_without_problems_the_first_fault_is_raised(read):
    rows = read("id,prompt\na,b\nd\nf\n").rows()

    assert next(rows).id == "a"
    with pytest.raises(TableError, match="line 3"):
        next(rows)


def test_good_rows_come_through_beside_faulty_ones(read):
    problems = Problems()

    rows = list(read("id,prompt\na,b\nd\nf,g\n").rows(problems))

    assert [(row.id, row.number) for row in rows] == [("a", 1), ("f", 3)]
    assert problems.total == 1


@pytest.mark.parametrize("bad", ["\0", "\x07", "\x7f", "\x85"])
def test_control_characters_are_a_fault_of_their_row(read, faults, bad):
    table = read(f"id,prompt\na,x{bad}y\nb,fine\n")

    (fault,) = faults(table)

    # csv in Python 3.10 refuses NUL itself, and cannot name the column
    assert re.match(rf"t\.csv line 2(, column prompt)?: a control character \(U\+{ord(bad):04X}\)", fault)


def test_lone_surrogates_are_a_fault_of_their_row(read, faults):
    table = read("id,prompt\na,x\ud83dy\nb,fine\n".encode("utf-8", "surrogatepass"))

    (fault,) = faults(table)

    assert "t.csv line 2, column prompt: a lone surrogate (U+D83D)" in fault


def test_cell_cap(read, faults):
    table = read(f"id,prompt\na,{'x' * 65_536}\nb,{'x' * 65_537}\n")

    (fault,) = faults(table)

    assert fault.startswith("t.csv line 3, column prompt: the cell has 65,537 characters; at most 65,536")


def test_tab_is_a_character_of_the_prompt(read):
    assert next(read("prompt\na\tb\n", delimiter=",").rows()).fields["prompt"] == "a\tb"


def test_txt_is_one_prompt_a_line(read):
    table = read('a cat, sitting\r\n\n红花瓶; "x\n', "prompts.txt")

    assert [(row.number, row.line, row.fields) for row in table.rows()] == [
        (1, 1, {"prompt": "a cat, sitting"}),
        (2, 3, {"prompt": '红花瓶; "x'}),
    ]
    assert table.known == {"prompt": "prompt"}


def test_tsv(read):
    table = read("id\tprompt, long\n1\ta, b\n", "t.tsv")

    assert table.format == "tsv"
    assert next(table.rows()).fields == {"id": "1", "prompt, long": "a, b"}


@pytest.mark.parametrize("content", ["", "\ufeff", "\n\n \n", "\r\n"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.jsonl"])
def test_nothing_in_the_file(read, name, content):
    with pytest.raises(TableError, match=r"the table is empty|no column has a name") as caught:
        read(content, name)

    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_header_only(read):
    with pytest.raises(TableError, match="column names, but no rows"):
        read("id,prompt\n\n,\n")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("missing.csv", "check the path"),
        ("t.xls", "save it as .xlsx"),
        ("t.docx", "one of .csv, .tsv"),
        ("t", "one of"),
    ],
)
def test_files_that_are_no_table(tmp_path, name, hint):
    with pytest.raises(TableError) as caught:
        open_table(tmp_path / name)

    assert caught.value.hint.startswith(hint)


def test_folder(tmp_path):
    (tmp_path / "t.csv").mkdir()

    with pytest.raises(TableError, match="cannot be read"):
        open_table(tmp_path / "t.csv")
