from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from promptmill.driver.report import Entry, write_contact_sheet, write_report

MakeEntry = Callable[..., Entry]
HOSTILE = "</script><script>alert(1)</script><!-- \u2028 \u202e \ud83d \" ' & \\ {{ 7 * 7 }} {% raw %}"


def data(out: Path) -> Any:
    page = (out / "index.html").read_text(encoding="utf-8")
    _, _, rest = page.partition('<script id="data" type="application/json">')
    return json.loads(rest.partition("</script>")[0])


def test_the_page_holds_every_value_of_every_entry(make_entry: MakeEntry, tmp_path: Path) -> None:
    entries = [
        make_entry(1, prompt=HOSTILE, error=HOSTILE, seed=2**64 - 1),
        make_entry(2, seed=None, file=""),
    ]

    write_contact_sheet(tmp_path, HOSTILE.replace("\ud83d", ""), entries, {HOSTILE.replace("\ud83d", ""): 1})

    found = data(tmp_path)
    for entry, row in zip(entries, found["rows"], strict=True):
        for name, value in zip(found["fields"], row, strict=True):
            expected = getattr(entry, name)
            assert value == (str(expected) if name == "seed" and expected is not None else expected)
    assert "<script>alert" not in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_run_without_entries_has_a_page(tmp_path: Path) -> None:
    write_contact_sheet(tmp_path, "empty", [], {})

    assert data(tmp_path)["rows"] == []


def test_an_error_half_way_leaves_the_old_page(make_entry: MakeEntry, tmp_path: Path) -> None:
    write_contact_sheet(tmp_path, "old", [make_entry()], {})
    before = (tmp_path / "index.html").read_bytes()

    def breaks() -> Iterator[Entry]:
        yield make_entry()
        raise RuntimeError("the ledger is gone")

    with pytest.raises(RuntimeError, match="the ledger is gone"):
        write_contact_sheet(tmp_path, "new", breaks(), {})

    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_bytes() == before


def test_a_report_from_a_list_and_from_a_callable_is_the_same(make_entry: MakeEntry, tmp_path: Path) -> None:
    entries = [make_entry(i) for i in range(1, 4)]

    write_report(tmp_path / "list", "a run", entries, {"Servers": 1})
    write_report(tmp_path / "callable", "a run", lambda: iter(entries), {"Servers": 1})

    for name in ("manifest.csv", "manifest.jsonl", "index.html"):
        assert (tmp_path / "list" / name).read_bytes() == (tmp_path / "callable" / name).read_bytes()
    assert len(data(tmp_path / "list")["rows"]) == 3
