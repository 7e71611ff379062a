from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from promptmill.driver.report import Entry, write_manifest
from promptmill.errors import OutputError
from promptmill.table import open_table

MakeEntry = Callable[..., Entry]
ANY_TEXT = st.text(st.characters(exclude_characters="\0"))


def read_csv(out: Path) -> list[dict[str, str]]:
    with (out / "manifest.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def read_jsonl(out: Path) -> list[Entry]:
    lines = (out / "manifest.jsonl").read_text(encoding="utf-8").split("\n")
    return [Entry(**json.loads(line)) for line in lines[:-1]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(ANY_TEXT, ANY_TEXT, st.none() | st.integers(0, 2**64 - 1), st.none() | st.floats(0, 1e6))
@example("\u2028 \r\n 猫 \ud83d", "\udc80", 2**64 - 1, 0.1)
def test_jsonl_gives_back_every_value_exactly(
    make_entry: MakeEntry, tmp_path: Path, prompt: str, error: str, seed: int | None, seconds: float | None
) -> None:
    entries = [make_entry(1, prompt=prompt, error=error, seed=seed, seconds=seconds), make_entry(2)]

    write_manifest(tmp_path, entries)

    assert read_jsonl(tmp_path) == entries


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_csv_gives_back_every_text_but_for_the_apostrophe_of_a_formula(
    make_entry: MakeEntry, tmp_path: Path, prompt: str
) -> None:
    write_manifest(tmp_path, [make_entry(prompt=prompt)])

    (line,) = read_csv(tmp_path)
    apostrophe = "'" if prompt[:1] in ("=", "+", "-", "@", "\t", "\r") and prompt else ""
    assert line["prompt"] == apostrophe + prompt


def test_csv_has_a_byte_order_mark_and_the_columns_of_an_entry(make_entry: MakeEntry, tmp_path: Path) -> None:
    write_manifest(tmp_path, [make_entry(prompt="一只红色的马克杯", file="", seconds=None, width=None)])

    assert (tmp_path / "manifest.csv").read_bytes().startswith(b"\xef\xbb\xbfid,row,variant,")
    (line,) = read_csv(tmp_path)
    assert list(line) == [field.name for field in fields(Entry)]
    assert (line["prompt"], line["file"], line["seconds"], line["width"]) == ("一只红色的马克杯", "", "", "")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_that_would_be_a_formula_is_escaped_in_every_text_column(
    make_entry: MakeEntry, tmp_path: Path, start: str
) -> None:
    formula = start + 'HYPERLINK("http://example.invalid")'
    texts = [name for name, value in asdict(make_entry()).items() if isinstance(value, str)]

    write_manifest(tmp_path, [make_entry(**dict.fromkeys(texts, formula))])

    (line,) = read_csv(tmp_path)
    assert {line[name] for name in texts} == {"'" + formula}
    assert read_jsonl(tmp_path)[0].prompt == formula


@pytest.mark.parametrize("seed", [0, 2**53 + 1, 2**64 - 1])
def test_seeds_are_exact_digits_in_both(make_entry: MakeEntry, tmp_path: Path, seed: int) -> None:
    write_manifest(tmp_path, [make_entry(seed=seed)])

    assert read_csv(tmp_path)[0]["seed"] == str(seed)
    assert read_jsonl(tmp_path)[0].seed == seed


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.jsonl"])
def test_a_manifest_is_itself_a_table(make_entry: MakeEntry, tmp_path: Path, name: str) -> None:
    entries = [make_entry(1, seed=2**64 - 1, prompt='一只"红色"的\n马克杯, 白色背景'), make_entry(2)]

    write_manifest(tmp_path, entries)

    rows = list(open_table(tmp_path / name).rows())
    read = [(row.id, row.fields["prompt"], row.fields["seed"], row.fields["file"]) for row in rows]
    assert read == [(entry.id, entry.prompt, str(entry.seed), entry.file) for entry in entries]


def test_an_error_half_way_leaves_the_old_files(make_entry: MakeEntry, tmp_path: Path) -> None:
    write_manifest(tmp_path, [make_entry(1)])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def breaks() -> Iterator[Entry]:
        yield make_entry(2)
        raise RuntimeError("the ledger is gone")

    with pytest.raises(RuntimeError, match="the ledger is gone"):
        write_manifest(tmp_path, breaks())

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_manifest_that_cannot_be_replaced_is_named_with_a_way_out(
    make_entry: MakeEntry, tmp_path: Path
) -> None:
    (tmp_path / "manifest.csv").mkdir()

    with pytest.raises(OutputError) as raised:
        write_manifest(tmp_path, [make_entry()])

    assert str(tmp_path / "manifest.csv") in raised.value.where
    assert raised.value.hint.endswith(f"promptmill report {tmp_path}")
    assert not list(tmp_path.glob(".*.part"))
