"""Given a folder of converted files, expect each to be made once, damaged ones anew, and old ones to go."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from promptmill.errors import CheckpointError, OutputError
from promptmill.quantization import cache as cache_module
from promptmill.quantization.cache import Cache
from promptmill.quantization.journal import locked

FP8, INT8 = {"format": "fp8"}, {"format": "int8"}


class Maker:
    """A conversion that can be counted."""

    def __init__(self, size: int = 1000) -> None:
        self.size, self.made = size, []

    def __call__(self, target):
        self.made.append(target.name)
        target.write_bytes((self.size - 8).to_bytes(8, "little") + b"{}".ljust(self.size - 8))
        return {"text": "converted"}


@pytest.fixture
def make():
    return Maker()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "ernie.safetensors"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def test_a_file_is_converted_once(cache, source, make):
    first, entry = cache.get(source, FP8, make)
    again, same = cache.get(source, FP8, make)

    assert first == again == cache.folder / make.made[0]
    assert len(make.made) == 1
    assert first.name.startswith("ernie.fp8.")
    assert first.name.endswith(".safetensors")
    assert (entry.size, entry.report, entry.source) == (1000, {"text": "converted"}, str(source))
    assert same == entry


def test_another_recipe_content_or_version_is_another_file(cache, source, make, monkeypatch):
    cache.get(source, FP8, make)
    cache.get(source, INT8, make)
    cache.get(source, FP8 | {"keep": ["layers.0"]}, make)
    source.write_bytes(b"other weights")
    cache.get(source, FP8, make)
    monkeypatch.setattr(cache_module, "CONVERSION", 99)
    cache.get(source, FP8, make)

    assert len(set(make.made)) == 5


def test_the_same_content_elsewhere_is_not_converted_again(cache, source, make):
    path, _ = cache.get(source, FP8, make)
    moved = source.rename(source.with_name("renamed.safetensors"))

    assert cache.get(moved, FP8, make)[0] == path
    assert len(make.made) == 1


def test_a_source_is_read_once(cache, source, make):
    shares = []
    cache.get(source, FP8, make, tick=lambda what, share: shares.append((what, share)))
    cache.get(source, INT8, make, tick=lambda what, share: shares.append((what, share)))
    assert shares == [("reading", 1.0)]

    os.utime(source, ns=(0, 0))
    cache.get(source, FP8, make, tick=lambda what, share: shares.append((what, share)))
    assert len(shares) == 2
    assert len(make.made) == 2


def test_a_damaged_file_is_made_again(cache, source, make):
    path, _ = cache.get(source, FP8, make)
    path.write_bytes(b"half")
    assert cache.entries() == []

    assert cache.get(source, FP8, make)[0].stat().st_size == 1000
    path.unlink()
    assert cache.get(source, FP8, make)[0].stat().st_size == 1000
    assert len(make.made) == 3


def test_a_file_whose_header_is_damaged_is_made_again(cache, source, make):
    path, _ = cache.get(source, FP8, make)
    path.write_bytes(b"x" * 1000)

    cache.get(source, FP8, make)

    assert path.read_bytes() != b"x" * 1000
    assert len(make.made) == 2


def test_another_file_of_the_same_size_and_time_is_another_one(cache, source, make):
    cache.get(source, FP8, make)
    state = source.stat()
    other = source.with_name("other")
    other.write_bytes(b"WEIGHTS")
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.replace(source)

    cache.get(source, FP8, make)

    assert len(set(make.made)) == 2


def test_a_conversion_that_fails_leaves_no_entry(cache, source, make):
    def fail(target):
        raise CheckpointError("no space")

    with pytest.raises(CheckpointError):
        cache.get(source, FP8, fail)
    assert cache.entries() == []
    cache.get(source, FP8, make)
    assert len(make.made) == 1


def use(cache, source, name, make, seconds):
    path = source.with_name(name)
    path.write_bytes(name.encode())
    found, _ = cache.get(path, FP8, make)
    record = found.with_name(f"{found.name}.json")
    os.utime(record, (seconds, seconds))
    return found


def test_the_oldest_goes_first_and_what_is_in_use_stays(tmp_path, source, make):
    cache = Cache(tmp_path / "cache", limit=3000 / 1e9)
    a, b, c = (use(cache, source, name, make, seconds) for seconds, name in enumerate("abc", 1000))

    cache.get(source.with_name("a"), FP8, make)
    cache.get(source, FP8, make, in_use=[b])

    assert [path.exists() for path in (a, b, c)] == [True, True, False]
    assert len(cache.entries()) == 3
    assert [path.name for path in (tmp_path / "cache").glob("*.json") if c.name in path.name] == []


def test_a_file_larger_than_the_limit_can_be_used(tmp_path, source, make):
    cache = Cache(tmp_path / "cache", limit=1e-9)

    assert cache.get(source, FP8, make)[0].exists()
    assert cache.get(source, INT8, make)[0].exists()
    assert [entry.format for entry in cache.entries()] == ["int8"]


def test_removing(cache, source, make):
    path, entry = cache.get(source, FP8, make)

    assert cache.remove(path.name) == entry
    assert not path.exists()
    with pytest.raises(CheckpointError, match="no such file in the cache"):
        cache.remove(path.name)


def test_only_names_of_the_cache_are_removed(cache, source, make):
    cache.get(source, FP8, make)
    with pytest.raises(CheckpointError):
        cache.remove("../ernie.safetensors")
    assert source.exists()


def test_the_size_is_a_number_of_gigabytes(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTMILL_CACHE_SIZE", "20")
    assert Cache(tmp_path).limit == 20
    for text in ("much", "nan", "-5"):
        monkeypatch.setenv("PROMPTMILL_CACHE_SIZE", text)
        with pytest.raises(CheckpointError, match=rf"number of GB.*found '{text}'"):
            Cache(tmp_path)


OTHER = """
    import sys
    from pathlib import Path
    from promptmill.quantization.cache import Cache

    def make(target):
        print("converting", flush=True)
        sys.stdin.readline()
        target.write_bytes(b"\\x02\\0\\0\\0\\0\\0\\0\\0{}")
        return {"text": ""}

    Cache(Path(sys.argv[1])).get(Path(sys.argv[2]), {"format": "fp8"}, make)
"""


@pytest.fixture
def other(cache, source):
    """Another process in the midst of the same conversion."""
    command = [sys.executable, "-c", textwrap.dedent(OTHER), str(cache.folder), str(source)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "converting\n"
        yield process
        process.kill()


def test_one_of_two_processes_converts_and_the_other_waits(cache, source, make, other):
    told = []

    def tick(what, share):
        if what != "reading" and not told:
            other.stdin.write("\n")
            other.stdin.flush()
            told.append(what)

    path, _ = cache.get(source, FP8, make, tick=tick)

    assert told == ["waiting for another process"]
    assert path.read_bytes().endswith(b"{}")
    assert make.made == []


def test_waiting_can_be_given_up(cache, source, make, other):
    def tick(what, share):
        if what != "reading":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get(source, FP8, make, tick=tick)
    assert make.made == []


def test_a_killed_process_keeps_nobody_waiting(cache, source, make, other):
    other.kill()
    other.wait()

    assert cache.get(source, FP8, make)[0].exists()
    assert len(make.made) == 1


RECORDS = ["", "5", "[]", "{", '{"name": "x"}', "size", "more"]


@pytest.mark.parametrize("content", RECORDS)
def test_a_broken_record_is_no_entry(cache, source, make, content):
    path, entry = cache.get(source, FP8, make)
    changed = {"size": {"size": "much"}, "more": {"more": 1}}.get(content)
    record = json.dumps(asdict(entry) | changed) if changed else content
    path.with_name(f"{path.name}.json").write_text(record)

    assert cache.entries() == []
    assert cache.get(source, FP8, make)[0] == path
    assert len(make.made) == 2


@pytest.mark.parametrize("broken", [5, [], None, "path: 5", "path: []", "path: text"])
def test_broken_hashes_are_read_again(cache, source, make, broken):
    path, _ = cache.get(source, FP8, make)
    values = {"path: 5": 5, "path: []": [], "path: text": "x"}
    content = {str(source): values[broken]} if isinstance(broken, str) else broken
    (cache.folder / "hashes.json").write_text(json.dumps(content))

    assert cache.get(source, FP8, make)[0] == path
    assert len(make.made) == 1


@pytest.mark.parametrize("what", ["a file", "below a file", "a link to nowhere"])
def test_a_folder_that_cannot_be_used_is_told(tmp_path, source, make, what):
    folder = {"a file": source, "below a file": source / "cache"}.get(what, tmp_path / "link")
    if what == "a link to nowhere":
        folder.symlink_to(tmp_path / "nowhere")

    with pytest.raises(OutputError, match="cannot be used") as caught:
        Cache(folder).get(source, FP8, make)

    assert "PROMPTMILL_CACHE=" in caught.value.hint


def test_a_long_name_is_shortened_by_bytes(cache, source, make):
    long = source.rename(source.with_name("\u957f" * 78 + ".safetensors"))

    path, _ = cache.get(long, FP8, make)

    assert path.name.startswith("\u957f" * 60)
    assert len(f"{path.name}.part.jsonl".encode()) <= 255
    assert cache.get(long, FP8, make)[0] == path


@pytest.fixture
def part(cache, source, make):
    """What a stopped conversion left, older than a file."""
    path, _ = cache.get(source, FP8, make)
    part = path.with_name("old.fp8.0a1b2c3d.safetensors.part")
    part.write_bytes(b"x" * 1000)
    part.with_name(f"{part.name}.jsonl").write_bytes(b"{}\n")
    os.utime(part, (1, 1))
    return part


def test_what_a_stopped_conversion_left_counts_and_goes_first(cache, part):
    assert [entry.name for entry in cache.shrink(2000 / 1e9)] == []
    assert [entry.name for entry in cache.shrink(1500 / 1e9)] == [part.name]

    assert list(cache.folder.glob("*.part*")) == []
    assert len(cache.entries()) == 1


def test_what_another_process_may_be_writing_stays(cache, part):
    with (cache.folder / "lock").open("ab") as file:
        assert locked(file)

        assert [entry.format for entry in cache.shrink(-1)] == ["fp8"]
        with pytest.raises(CheckpointError, match="may be writing"):
            cache.remove(part.name)

    assert part.exists()


def test_a_process_killed_before_it_has_noted_its_file_leaves_one_that_is_counted(
    cache, source, make, monkeypatch
):
    path, _ = cache.get(source, FP8, make)
    path.with_name(f"{path.name}.json").unlink()

    assert [(found.name, found.size) for found in cache.leftovers()] == [(path.name, 1000)]
    assert [found.name for found in cache.shrink(-1)] == [path.name]
    assert not path.exists()


def test_room_is_made_before_a_conversion(tmp_path, source, make):
    cache = Cache(tmp_path / "cache", limit=2500 / 1e9)
    a, b = (use(cache, source, name, make, seconds) for seconds, name in enumerate("ab", 1000))
    there = []

    def look(target):
        there.append([path.exists() for path in (a, b)])
        return make(target)

    cache.get(source, FP8, look, size=1000)

    assert there == [[False, True]]


def test_a_full_disk_is_room_too(cache, source, make, monkeypatch):
    a, b = (use(cache, source, name, make, seconds) for seconds, name in enumerate("ab", 1000))
    free = SimpleNamespace(free=300)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda folder: free)

    cache.get(source, FP8, make, size=1000)

    assert [path.exists() for path in (a, b)] == [False, True]


def test_a_conversion_that_goes_on_keeps_its_part_and_needs_the_rest_only(tmp_path, source, make):
    cache = Cache(tmp_path / "cache", limit=2500 / 1e9)
    old = use(cache, source, "old", make, 1000)
    path, _ = cache.get(source, FP8, make)
    part = path.with_name(f"{path.name}.part")
    path.rename(part)

    def look(target):
        assert part.exists()
        assert old.exists()
        part.unlink()
        return make(target)

    assert cache.get(source, FP8, look, size=1000)[0] == path


def test_a_disk_without_locks_is_told(cache, source, make, monkeypatch):
    def refuse(file):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(cache_module, "locked", refuse)

    with pytest.raises(OutputError, match="cannot be used: Function not implemented"):
        cache.get(source, FP8, make)
    assert make.made == []
