"""Given a cache, expect `promptmill cache` to list it and to remove what it is told to."""

from __future__ import annotations

import json
import os

import pytest

from promptmill.driver.cli import app
from promptmill.quantization.cache import Cache


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """ComfyUI's folder, in which one stands, with three converted files; ``a`` was used last."""
    monkeypatch.delenv("PROMPTMILL_CACHE", raising=False)
    monkeypatch.setattr("promptmill.driver.cli.cache.PLACES", [tmp_path / "models"])
    cache = Cache(tmp_path / "models" / "promptmill_cache")
    for used, name in enumerate("cba", 1_700_000_000):
        source = tmp_path / f"{name}.safetensors"
        source.write_bytes(name.encode())
        path, _ = cache.get(
            source, {"format": "fp8"}, lambda target: {"text": str(target.write_bytes(b"x" * 1000))}
        )
        os.utime(path.with_name(f"{path.name}.json"), (used, used))
    return cache.folder


@pytest.fixture
def cache(capsys):
    """Run the command: exit code, lines of JSON, what was said."""

    def run(*options):
        with pytest.raises(SystemExit) as ended:
            app(["cache", "--json", *map(str, options)])
        told = capsys.readouterr()
        return ended.value.code, [json.loads(line) for line in told.out.splitlines()], told.err

    return run


def names(lines):
    return [line["name"][0] for line in lines]


def test_it_lists_what_was_used_last_first(folder, cache, tmp_path):
    code, lines, told = cache()

    assert (code, names(lines)) == (0, ["a", "b", "c"])
    assert (lines[0]["source"], lines[0]["format"], lines[0]["size"]) == (
        str(tmp_path / "a.safetensors"),
        "fp8",
        1000,
    )
    assert lines[0]["used"].startswith("2023-11-1")
    assert "3 files" in told


def test_a_folder_that_is_not_there_is_told(cache, tmp_path):
    code, lines, _ = cache("--folder", tmp_path / "nowhere")

    assert (code, lines[0]["message"]) == (2, "there is no such folder")


def test_all_and_a_limit_are_one_too_many(folder, cache):
    code, lines, _ = cache("--clear", "--limit", "1")

    assert (code, len(list(folder.glob("*.safetensors")))) == (2, 3)
    assert "--clear" in lines[0]["message"]


def test_it_removes_by_name(folder, cache):
    _, lines, _ = cache()

    assert names(cache("--remove", lines[1]["name"])[1]) == ["b"]
    assert names(cache()[1]) == ["a", "c"]


def test_it_removes_down_to_a_size(folder, cache):
    assert names(cache("--limit", 2e-6)[1]) == ["c"]
    assert names(cache()[1]) == ["a", "b"]


def test_it_removes_all_it_made_and_nothing_else(folder, cache):
    (folder / "mine.safetensors").write_bytes(b"mine")
    (folder / "d.fp8.0a1b2c3d.safetensors.part").write_bytes(b"half")

    assert cache()[1][3]["name"] == "d.fp8.0a1b2c3d.safetensors.part"
    assert len(cache("--clear")[1]) == 4
    assert [path.name for path in folder.glob("*.safetensors*")] == ["mine.safetensors"]


def test_another_folder_may_be_named(folder, cache, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    assert cache("--folder", tmp_path / "elsewhere")[:2] == (0, [])


def test_a_name_that_is_not_there_is_said(folder, cache):
    code, lines, _ = cache("--remove", "x.safetensors")

    assert code == 2
    assert lines[0]["error"] == "checkpoint"


def test_without_a_cache_it_says_where_to_look(cache, tmp_path, monkeypatch):
    monkeypatch.delenv("PROMPTMILL_CACHE", raising=False)
    monkeypatch.setattr("promptmill.driver.cli.cache.PLACES", [tmp_path / "nowhere"])

    code, lines, _ = cache()

    assert code == 2
    assert "promptmill_cache" in lines[0]["hint"]
