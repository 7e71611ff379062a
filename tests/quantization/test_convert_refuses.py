"""Given a source or a target that is none, expect a clear error, the source untouched and nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
import torch

from promptmill.errors import CheckpointError, OutputError
from promptmill.quantization import convert as converting
from promptmill.quantization import journal
from promptmill.quantization.checkpoint import Checkpoint, quantization_of
from promptmill.quantization.convert import Recipe, convert
from promptmill.quantization.formats import FORMATS

FORMAT = pytest.mark.parametrize("form", FORMATS)
FP8, INT8 = FORMATS["fp8"], FORMATS["int8"]


# What is refused


def eighth(tensors):
    return {
        name: tensor.to(torch.float8_e4m3fn) if tensor.dim() == 2 else tensor
        for name, tensor in tensors.items()
    }


REFUSED = {
    "cast to FP8": (eighth, "8 weights were cast to FP8"),
    "diffusers": (
        lambda tensors: {
            "x_embedder.weight": torch.zeros(64, 16),
            "transformer_blocks.0.attn.to_q.weight": torch.zeros(64, 64),
        },
        "diffusers' format",
    ),
    "LoRA": (lambda tensors: {"blocks.0.attn.to_q.lora_A.weight": torch.zeros(16, 64)}, "a LoRA"),
    "nothing to quantize": (
        lambda tensors: {"decoder.conv.weight": torch.zeros(8, 8, 3, 3)},
        "no layer to quantize",
    ),
    "no tensors": (lambda tensors: {}, "no tensors"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_quantized_is_refused(write, ernie, target, what):
    change, message = REFUSED[what]

    with pytest.raises(CheckpointError, match=message) as caught:
        convert(Checkpoint(write(change(ernie))), target, Recipe(FP8))

    assert caught.value.hint
    assert [path.name for path in target.parent.iterdir()] == ["source.safetensors"]


def test_a_quantized_file_is_refused_with_what_it_is(write, ernie, target):
    convert(Checkpoint(write(ernie)), target, Recipe(FP8))

    with pytest.raises(CheckpointError, match="quantized already: 6 layers in float8_e4m3fn"):
        convert(Checkpoint(target), target.with_name("twice.safetensors"), Recipe(INT8))


@FORMAT
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_name_their_layer_and_leave_nothing(write, ernie, target, form, value):
    ernie["layers.1.mlp.linear_fc2.weight"][3, 5] = value

    with pytest.raises(CheckpointError, match="NaN or infinity") as caught:
        convert(Checkpoint(write(ernie)), target, Recipe(FORMATS[form]))

    assert "layers.1.mlp.linear_fc2" in caught.value.where
    assert [path.name for path in target.parent.iterdir()] == ["source.safetensors"]


def test_a_pattern_that_is_none_is_refused(write, ernie, target):
    with pytest.raises(CheckpointError, match="no regular expression"):
        convert(Checkpoint(write(ernie)), target, Recipe(FP8, keep=("(",)))


# The target


def test_an_existing_target_is_refused_and_overwritten_on_request(write, ernie, target):
    source = Checkpoint(write(ernie))
    target.write_bytes(b"mine")

    with pytest.raises(OutputError, match="the file exists"):
        convert(source, target, Recipe(FP8))
    kept_so_far = target.read_bytes()
    convert(source, target, Recipe(FP8), overwrite=True)

    assert kept_so_far == b"mine"
    assert len(quantization_of(Checkpoint(target))) == 6


@pytest.mark.parametrize("link", [None, os.link, os.symlink])
def test_the_source_is_never_the_target(write, ernie, target, link):
    source = write(ernie)
    before = source.read_bytes()
    if link:
        link(source, target)

    with pytest.raises(OutputError, match="the target is the source"):
        convert(Checkpoint(source), target if link else source, Recipe(FP8), overwrite=True)

    assert source.read_bytes() == before


def test_a_target_that_comfyui_would_not_find_is_refused(write, ernie, tmp_path):
    with pytest.raises(OutputError, match="by their ending"):
        convert(Checkpoint(write(ernie)), tmp_path / "model.fp8", Recipe(FP8))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 900 KB, in memory, for a file of 1.2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        shutil.which("mount")
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", folder], capture_output=True
        ).returncode
        == 0
    )
    if not mounted:
        pytest.skip("NOT RUN, needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_too_small_a_disk_is_refused_at_once(write, ernie, small_disk):
    with pytest.raises(OutputError, match="the disk is too full"):
        convert(Checkpoint(write(ernie)), small_disk / "target.safetensors", Recipe(FP8))


def test_a_disk_that_fills_up_is_an_error_and_the_same_call_goes_on(write, ernie, small_disk, monkeypatch):
    source, target = Checkpoint(write(ernie)), small_disk / "target.safetensors"
    monkeypatch.setattr(journal, "EVERY", 1 << 15)
    monkeypatch.setattr(converting, "BEHIND", 0)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40))
        with pytest.raises(OutputError, match="cannot be written: No space left") as caught:
            convert(source, target, Recipe(FP8))
    gone = not target.exists()
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    seen = []
    convert(source, target, Recipe(FP8), seen.append)

    assert gone
    assert "make room" in caught.value.hint
    assert 500_000 < seen[0].done < 2_000_000
    assert len(quantization_of(Checkpoint(target))) == 6
