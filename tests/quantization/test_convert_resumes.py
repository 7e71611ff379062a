"""Given a conversion that was stopped, expect the same call to go on and any other to begin anew. (test_kill.py kills.)"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from promptmill.errors import OutputError
from promptmill.quantization import convert as converting
from promptmill.quantization import journal
from promptmill.quantization.checkpoint import Checkpoint
from promptmill.quantization.convert import Recipe, convert
from promptmill.quantization.formats import FORMATS
from promptmill.quantization.journal import Journal

FP8 = FORMATS["fp8"]


class Stop(Exception):
    pass


def stopping(after):
    def progress(now):
        if now.done > after:
            raise Stop

    return progress


@pytest.fixture
def stopped(write, ernie, target, monkeypatch):
    """A source whose conversion was stopped in the middle."""
    monkeypatch.setattr(journal, "EVERY", 1 << 15)
    monkeypatch.setattr(converting, "BEHIND", 0)
    source = write(ernie)
    with pytest.raises(Stop):
        convert(Checkpoint(source), target, Recipe(FP8), stopping(source.stat().st_size // 2))
    return source


def begun_at(source, target, recipe):
    seen = []
    convert(Checkpoint(source), target, recipe, seen.append)
    return seen[0].done


def test_the_same_call_goes_on(stopped, target, tmp_path):
    done = begun_at(stopped, target, Recipe(FP8))
    convert(Checkpoint(stopped), tmp_path / "at once.safetensors", Recipe(FP8))

    assert done > 0
    assert target.read_bytes() == (tmp_path / "at once.safetensors").read_bytes()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".safetensors"] * 3


def test_half_a_line_of_the_journal_is_forgotten(stopped, target):
    with target.with_name(f"{target.name}.part.jsonl").open("ab") as lines:
        lines.write(b'{"done": "lay')
    with pytest.raises(Stop):
        convert(Checkpoint(stopped), target, Recipe(FP8), stopping(stopped.stat().st_size * 3 // 4))

    assert begun_at(stopped, target, Recipe(FP8)) > stopped.stat().st_size // 2


def test_another_recipe_begins_anew(stopped, target):
    assert begun_at(stopped, target, Recipe(FP8, keep=("fc2",))) == 0


def test_another_source_begins_anew(stopped, target):
    os.utime(stopped, ns=(1, 1))
    assert begun_at(stopped, target, Recipe(FP8)) == 0


def test_a_part_that_is_gone_begins_anew(stopped, target):
    target.with_name(f"{target.name}.part").unlink()
    assert begun_at(stopped, target, Recipe(FP8)) == 0


def test_two_do_not_write_the_same_file(write, ernie, target):
    with Journal(target, "another"), pytest.raises(OutputError, match="another process is writing"):
        convert(Checkpoint(write(ernie)), target, Recipe(FP8))


def test_the_threads_of_torch_are_as_they_were(write, ernie, target):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        convert(Checkpoint(write(ernie)), target, Recipe(FP8))
        with ThreadPoolExecutor(1) as later:
            found = later.submit(torch.get_num_threads).result()
        assert found == torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
