"""json and jsonl."""

from __future__ import annotations

import json

import pytest

from promptmill.errors import TableError


@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_numbers_keep_their_digits_and_null_is_blank(read, name):
    item = '{"id": "a", "seed": 18446744073709551615, "cfg": 1.50, "big": 1e400, "on": true, "off": false, "no": null}'

    (row,) = read(f"[{item}]" if name == "t.json" else item, name).rows()

    assert row.fields == {
        "id": "a",
        "seed": "18446744073709551615",
        "cfg": "1.50",
        "big": "1e400",
        "on": "true",
        "off": "false",
        "no": "",
    }


def test_json_columns_are_the_union_of_all_keys(read):
    table = read('[{"id": "a", "prompt": "x"},\n {"seed": 1, "id": "b"}]', "t.json")

    assert table.columns == ("id", "prompt", "seed")
    assert [(row.line, row.fields) for row in table.rows()] == [
        (1, {"id": "a", "prompt": "x", "seed": ""}),
        (2, {"id": "b", "prompt": "", "seed": "1"}),
    ]


def test_jsonl_columns_are_those_of_the_first_line(read, faults):
    table = read('\n{"id": "a", "prompt": "x"}\n\n{"id": "b"}\n{"id": "c", "promt": "y"}\n', "t.jsonl")

    assert table.columns == ("id", "prompt")
    assert faults(table) == [
        "t.jsonl line 5: a key that the first object does not have (found 'promt')\n"
        "  hint: give the first object all keys (null is blank), or store the table as .json"
    ]


def test_jsonl_reports_every_faulty_line(read, faults):
    table = read(
        '{"id": "a"}\n{"id": "b"\n["c"]\n{"id": "d", "id": "e"}\n{"id": {"f": 1}}\n{"id": [1]}\n"x"\n',
        "t.jsonl",
    )

    assert [fault.split(" (found")[0].split("\n")[0] for fault in faults(table)] == [
        "t.jsonl line 2, column 11: not JSON: Expecting ',' delimiter",
        "t.jsonl line 3: not an object",
        "t.jsonl line 4: the key stands twice in the object",
        "t.jsonl line 5, key id: nested values have no place in a table",
        "t.jsonl line 6, key id: nested values have no place in a table",
        "t.jsonl line 7: not an object",
    ]


def test_json_reports_every_faulty_item(read, faults):
    table = read('[{"id": "a"}, 7, {"id": "b", "id": "b"}, {"id": {}}]', "t.json")

    assert [fault.split(":")[0] for fault in faults(table)] == [
        "t.json item 2",
        "t.json item 3",
        "t.json item 4, key id",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"id": "a"},\n {"id" "b"}]', "t.json, line 2, column 8: not JSON: Expecting ':' delimiter"),
        ('{"id": "a"}', "a json table is a list of objects"),
        ("[]", "the table is empty"),
        ("", "not JSON"),
        ("[1, 2]", "no column has a name"),
        ("[{}]", "no column has a name"),
        ('[{"id": null}]', "column names, but no rows"),
        ("[" * 100_000, "nested far too deep|not JSON"),
    ],
)
def test_documents_that_are_no_table(read, content, message):
    with pytest.raises(TableError, match=message) as caught:
        read(content, "t.json")

    assert caught.value.hint


def test_json_escapes_cannot_bring_in_a_lone_surrogate(read, faults):
    table = read('{"id": "a", "prompt": "\\ud83d"}\n{"id": "b", "prompt": "\\ud83d\\ude00"}\n', "t.jsonl")

    (fault,) = faults(table)

    assert fault.startswith("t.jsonl line 1, column prompt: a lone surrogate (U+D83D)")


def test_line_separators_of_unicode_do_not_end_a_line(read):
    text = "a\u2028b\u0085c"[:3]
    table = read(json.dumps({"prompt": text}, ensure_ascii=False) + "\n", "t.jsonl")

    assert [row.fields["prompt"] for row in table.rows()] == [text]


def test_jsonl_in_gb18030(read):
    table = read('{"提示词": "红色陶瓷花瓶，放在木桌上，柔和的晨光"}\n', "t.jsonl", stored="gb18030")

    assert table.known == {"prompt": "提示词"}
    assert table.notes[0] == "read as GB18030"
