"""Given a manifest and images in a folder, expect them to say what was made, also after a crash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from promptmill.table import (
    KEYWORD,
    MANIFEST,
    Entry,
    Job,
    Row,
    append_entry,
    is_done,
    read_entries,
    read_stamp,
    stamp,
)


def entry(number: int) -> Entry:
    return Entry(
        id=f"r{number}",
        row=number,
        variant=1,
        index=1,
        file=f"r{number}.png",
        sha256="ab",
        prompt="红色 mug",
        negative="",
        seed=2**64 - 1,
        width=8,
        height=8,
        server="",
        seconds=None,
        attempts=1,
        status="done",
        error="",
        thumbnail="",
    )


JOB = Job(Row(1, 2, "a", {}), 1, 7, "a mug", "", "x/a.png")


def save(path: Path, content: object) -> None:
    chunks = PngInfo()
    chunks.add_text(KEYWORD, content if isinstance(content, str) else json.dumps(content))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, pnginfo=chunks)


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    for number in (1, 2):
        append_entry(tmp_path, entry(number))

    assert list(read_entries(tmp_path)) == [entry(1), entry(2)]


def test_a_line_that_a_crash_cut_short_costs_no_other_line(tmp_path: Path) -> None:
    append_entry(tmp_path, entry(1))
    with (tmp_path / MANIFEST).open("ab") as file:
        file.write(entry(2).line().encode()[:37])

    append_entry(tmp_path, entry(3))

    assert list(read_entries(tmp_path)) == [entry(1), entry(3)]


def test_no_manifest_and_other_lines_are_no_entries(tmp_path: Path) -> None:
    assert list(read_entries(tmp_path)) == []
    (tmp_path / MANIFEST).write_text('{"file": "a"}\n[]\n\nnot json\n', encoding="utf-8")
    assert list(read_entries(tmp_path)) == []


def test_an_image_with_the_jobs_stamp_is_done(tmp_path: Path) -> None:
    save(tmp_path / "x" / "a.png", stamp(JOB))

    assert is_done(JOB, tmp_path)
    found = read_stamp(tmp_path / "x" / "a.png")
    assert found is not None
    assert (found["id"], found["seed"], found["prompt"]) == ("a", 7, "a mug")


@pytest.mark.parametrize("content", [{}, {"digest": "other"}, "no json", "[]", "null"])
def test_an_image_of_something_else_is_not(tmp_path: Path, content: object) -> None:
    save(tmp_path / "x" / "a.png", content)

    assert not is_done(JOB, tmp_path)


def test_a_missing_or_broken_image_is_not_done(tmp_path: Path) -> None:
    assert not is_done(JOB, tmp_path)
    save(tmp_path / "x" / "a.png", stamp(JOB))
    whole = (tmp_path / "x" / "a.png").read_bytes()
    for broken in (whole[:20], whole[:-40], whole[:-40] + bytes(40), b"GIF89a", b""):
        (tmp_path / "x" / "a.png").write_bytes(broken)
        assert not is_done(JOB, tmp_path)


def test_other_texts_before_the_stamp_and_a_huge_picture_are_no_hindrance(tmp_path: Path) -> None:
    chunks = PngInfo()
    chunks.add_text("prompt", "x" * 5000)
    chunks.add_text("p", "")
    chunks.add_text(KEYWORD, json.dumps(stamp(JOB)))
    (tmp_path / "x").mkdir()
    Image.new("1", (20_000, 10_000)).save(tmp_path / "x" / "a.png", pnginfo=chunks)

    assert is_done(JOB, tmp_path)
