"""Given a conversion that was stopped, expect the same call to go on and any other to begin anew. (test_kill.py kills.)"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from promptmill.errors import OutputError
from promptmill.files import put_in_place
from promptmill.quantization import convert as converting
from promptmill.quantization import journal
from promptmill.quantization.checkpoint import Checkpoint, quantization_of
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


OTHERS = {
    "keep": Recipe(FP8, keep=("fc2",)),
    "budget": Recipe(FP8, budget=0.2),
    "scales": Recipe(FP8, activation_scales={"layers.0.mlp.gate_proj": 0.5}),
    "format": Recipe(FORMATS["int8"]),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_recipe_begins_anew(stopped, target, other):
    assert begun_at(stopped, target, OTHERS[other]) == 0


def test_nothing_of_a_longer_part_is_left(stopped, target, tmp_path):
    with target.with_name(f"{target.name}.part").open("ab") as part:
        part.write(b"x" * 5_000_000)

    convert(Checkpoint(stopped), target, OTHERS["keep"])
    convert(Checkpoint(stopped), tmp_path / "at once.safetensors", OTHERS["keep"])

    assert target.read_bytes() == (tmp_path / "at once.safetensors").read_bytes()


def test_another_source_begins_anew(stopped, target):
    os.utime(stopped, ns=(1, 1))
    assert begun_at(stopped, target, Recipe(FP8)) == 0


def test_a_part_that_is_gone_begins_anew(stopped, target):
    target.with_name(f"{target.name}.part").unlink()
    assert begun_at(stopped, target, Recipe(FP8)) == 0


def test_a_part_that_was_cut_short_begins_anew(stopped, target, tmp_path):
    os.truncate(target.with_name(f"{target.name}.part"), 1000)

    assert begun_at(stopped, target, Recipe(FP8)) == 0
    convert(Checkpoint(stopped), tmp_path / "at once.safetensors", Recipe(FP8))
    assert target.read_bytes() == (tmp_path / "at once.safetensors").read_bytes()


@pytest.mark.parametrize("line", [b"not json\n", b"\0" * 4096 + b"\n", b"[]\n", b'{"done": "odd 0"}\n'])
@pytest.mark.parametrize("keep", [True, False])
def test_a_journal_that_is_none_begins_anew(stopped, target, line, keep):
    path = target.with_name(f"{target.name}.part.jsonl")
    path.write_bytes((path.read_bytes() if keep else b"") + line)

    assert begun_at(stopped, target, Recipe(FP8)) == 0


@pytest.mark.parametrize("how", ["rounding", "in memory"])
def test_of_what_cannot_go_on_nothing_is_left(write, ernie, target, how):
    source = Checkpoint(write(ernie))
    if how == "rounding":
        recipe = Recipe(FP8, rounding=lambda layer, weight: None)
    else:
        recipe, source = Recipe(FP8), SimpleNamespace(metadata={}, names=source.names, read=source.read)

    with pytest.raises(Stop):
        convert(source, target, recipe, stopping(1_000_000))

    assert [path.name for path in target.parent.iterdir()] == ["source.safetensors"]


def test_of_what_cannot_go_on_a_killed_one_is_begun_anew(write, ernie, target):
    part, lines = journal.files_of(target)
    part.write_bytes(b"x" * 2_000_000)
    lines.write_bytes(b'{"fingerprint": null}\n{"done": "odd 0", "value": null, "end": 2000000}\n')

    assert begun_at(write(ernie), target, Recipe(FP8, rounding=lambda layer, weight: None)) == 0


def test_nobody_else_begins_while_the_part_is_put_in_place(write, ernie, target, monkeypatch):
    source, errors = write(ernie), []

    def meanwhile(part, final):
        for before in (True, False):
            with pytest.raises(OutputError) as caught:
                convert(Checkpoint(source), target, Recipe(FP8), overwrite=True)
            errors.append(caught.value.message)
            if before:
                put_in_place(part, final)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "put_in_place", meanwhile)
        convert(Checkpoint(source), target, Recipe(FP8))

    assert errors == ["another process is writing this file"] * 2
    assert len(quantization_of(Checkpoint(target))) == 6
    assert len(list(target.parent.iterdir())) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no open file")
def test_a_journal_that_was_removed_since_it_was_opened_locks_nothing(target, monkeypatch):
    def late(file):
        journal.files_of(target)[1].unlink()
        return True

    with monkeypatch.context() as patch:
        patch.setattr(journal, "locked", late)
        with pytest.raises(OutputError, match="another process"):
            Journal(target, "mine")


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
