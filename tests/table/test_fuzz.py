"""Whatever the bytes are: rows, or an error of ours."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from promptmill.errors import Problems, PromptmillError
from promptmill.table import open_table

TEXTS = ["id", "prompt", "seed", ",", ";", "\t", '"', '""', "\n", "\r", "\r\n", "\0", "{", "}", "[", "]", ":"]
TEXTS += ['{"id": ', "null", "1e5", "\\ud800", "\ufeff", "，", "提示词", "\x1a", "PK\x03\x04"]
BYTES = [
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xb2\xe2",
    b"\xa4\xa4",
    b"\x80",
    "花瓶".encode("gbk"),
    "花瓶".encode("utf-16-le"),
]
PIECES = st.sampled_from([*map(str.encode, TEXTS), *BYTES])
CONTENT = st.binary(max_size=60) | st.lists(PIECES, max_size=25).map(b"".join)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "json", "jsonl", "xlsx", "parquet"])
@settings(max_examples=150)
@given(content=CONTENT)
def test_random_bytes(suffix, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"t.{suffix}")
        path.write_bytes(content)
        try:
            table = open_table(path)
        except PromptmillError:
            return
        problems = Problems()
        rows = list(table.rows(problems))
        assert rows or problems.total
        assert all("\0" not in text for row in rows for text in row.fields.values())
        assert all(problem.hint and problem.where for problem in problems)


@settings(max_examples=150)
@given(
    content=CONTENT,
    encoding=st.sampled_from(
        ["utf-8", "utf-16", "utf-16-le", "gbk", "big5", "cp1252", "utf-7", "iso2022_jp", "idna"]
    ),
)
def test_random_bytes_in_a_named_encoding(content, encoding):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.csv")
        path.write_bytes(content)
        with suppress(PromptmillError):
            list(open_table(path, encoding=encoding).rows(Problems()))
