"""Given a source or a target that is none, expect a clear error, the source untouched and nothing left behind."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess

import pytest
import torch

from promptmill.errors import CheckpointError, OutputError
from promptmill.quantization import convert as converting
from promptmill.quantization import journal
from promptmill.quantization.checkpoint import Checkpoint, quantization_of
from promptmill.quantization.convert import Progress, Recipe, convert
from promptmill.quantization.formats import FORMATS
from promptmill.quantization.selection import select, size_after
from promptmill.quantization.target import cannot_write, check_before

FORMAT = pytest.mark.parametrize("form", FORMATS)
FP8, INT8 = FORMATS["fp8"], FORMATS["int8"]


# What is refused


def eighth(tensors):
    return {
        name: tensor.to(torch.float8_e4m3fn) if tensor.dim() == 2 else tensor
        for name, tensor in tensors.items()
    }


def only(*names):
    return {name: torch.zeros(64, 64) for name in names}


REFUSED = {
    "cast to FP8": (eighth, "8 weights are in FP8 already"),
    "diffusers": (
        lambda tensors: {
            "x_embedder.weight": torch.zeros(64, 16),
            "transformer_blocks.0.attn.to_q.weight": torch.zeros(64, 64),
        },
        "the format of diffusers",
    ),
    "PixelDiT": (
        lambda tensors: {
            "core.pixel_embedder.proj.weight": torch.zeros(16, 3),
            "core.pixel_blocks.0.adaLN_modulation.0.weight": torch.zeros(1536, 256),
        },
        "or of the model's makers",
    ),
    "LoRA": (lambda tensors: {"blocks.0.attn.to_q.lora_A.weight": torch.zeros(16, 64)}, "a LoRA"),
    "nothing to quantize": (
        lambda tensors: {"decoder.conv.weight": torch.zeros(8, 8, 3, 3)},
        "no layer to quantize",
    ),
    "no tensors": (lambda tensors: {}, "no tensors"),
    "CLIP": (lambda tensors: only("text_model.encoder.layers.0.mlp.fc1.weight"), "this is a text encoder"),
    "CLIP in SD3": (
        lambda tensors: only("transformer.text_model.encoder.layers.0.fc1.weight"),
        "this is a text encoder",
    ),
    "T5": (
        lambda tensors: only("encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"),
        "this is a text encoder",
    ),
    "Qwen": (
        lambda tensors: only("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"),
        "this is a text encoder",
    ),
    "ControlNet": (
        lambda tensors: only("control_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight"),
        "this is a ControlNet",
    ),
    "ControlNet for Flux": (
        lambda tensors: only(
            "double_blocks.0.img_attn.qkv.weight", "img_in.weight", "controlnet_blocks.0.weight"
        ),
        "this is a ControlNet",
    ),
    "VAE": (
        lambda tensors: only("decoder.mid.attn_1.q.weight", "decoder.up.0.block.0.conv1.weight"),
        "this is a VAE",
    ),
    "no shape fits": (lambda tensors: {"blocks.0.fc.weight": torch.zeros(2520, 40)}, "does not fit fp8"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_quantized_is_refused(write, ernie, target, what):
    change, message = REFUSED[what]

    with pytest.raises(CheckpointError, match=message) as caught:
        convert(Checkpoint(write(change(ernie))), target, Recipe(FP8))

    assert caught.value.hint
    assert [path.name for path in target.parent.iterdir()] == ["source.safetensors"]


def test_a_disk_without_locks_is_told_and_nothing_is_left(write, ernie, target, monkeypatch):
    def refuse(file):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(journal, "locked", refuse)

    with pytest.raises(OutputError, match="No locks available") as caught:
        convert(Checkpoint(write(ernie)), target, Recipe(FP8))

    assert caught.value.hint.startswith("choose a folder on a disk that can lock files")
    assert [path.name for path in target.parent.iterdir()] == ["source.safetensors"]


def test_a_lock_that_fails_leaves_the_journal_of_another_conversion(write, ernie, target, monkeypatch):
    def refuse(file):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    part, lines = journal.files_of(target)
    part.write_bytes(b"weights")
    lines.write_bytes(b"{}\n")
    monkeypatch.setattr(journal, "locked", refuse)

    with pytest.raises(OutputError, match="No locks available"):
        convert(Checkpoint(write(ernie)), target, Recipe(FP8))

    assert (part.read_bytes(), lines.read_bytes()) == (b"weights", b"{}\n")


def test_part_of_a_model_is_refused_and_a_single_part_is_not(write, ernie, target):
    part, whole = "model-00001-of-00003.safetensors", "model-00001-of-00001.safetensors"

    with pytest.raises(CheckpointError, match="part 1 of 3"):
        convert(Checkpoint(write(ernie, part)), target, Recipe(FP8))

    assert convert(Checkpoint(write(ernie, whole)), target, Recipe(FP8)).quantized


@pytest.mark.parametrize(
    ("layer", "keep", "hint"),
    [
        ((2520, 32), (), "--format int8"),
        ((2521, 32), (), "no format fits"),
        ((64, 64), ("fc",), "keep fewer layers"),
    ],
)
def test_where_nothing_is_left_the_hint_is_for_the_reason(write, target, layer, keep, hint):
    source = Checkpoint(write({"blocks.0.fc.weight": torch.zeros(layer)}))

    with pytest.raises(CheckpointError) as caught:
        convert(source, target, Recipe(FP8, keep=keep))

    assert hint in caught.value.hint


def test_an_empty_weight_is_kept(write, ernie, target):
    ernie["layers.0.nothing.weight"] = torch.empty(0, 256)

    report = convert(Checkpoint(write(ernie)), target, Recipe(FP8))

    assert report.kept["empty"] == 1


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


@pytest.mark.parametrize("link", [None, os.link, os.symlink])
@pytest.mark.parametrize("ending", [".part", ".part.jsonl"])
def test_the_source_is_never_what_is_written_first(write, ernie, target, link, ending):
    first = target.with_name(target.name + ending)
    source = write(ernie, first.name if not link else "source.safetensors")
    before = source.read_bytes()
    if link:
        link(source, first)

    with pytest.raises(OutputError, match=f"{ending}, to be written first, is the source"):
        convert(Checkpoint(source), target, Recipe(FP8), overwrite=True)

    assert source.read_bytes() == before


def test_a_part_that_no_conversion_left_is_refused(write, ernie, target):
    part = target.with_name(f"{target.name}.part")
    part.write_bytes(b"a download")

    with pytest.raises(OutputError, match="no conversion left it") as caught:
        convert(Checkpoint(write(ernie)), target, Recipe(FP8), overwrite=True)

    assert part.read_bytes() == b"a download"
    assert "move it away" in caught.value.hint
    assert not target.with_name(f"{part.name}.jsonl").exists()


NO_PLACE = {
    "a folder": (lambda folder: folder, "is a folder", "model.fp8.safetensors"),
    "below a file": (
        lambda folder: folder / "source.safetensors" / "x.safetensors",
        "cannot be written",
        "is a file",
    ),
    "too long": (lambda folder: folder / ("x" * 300 + ".safetensors"), "name too long", "a shorter name"),
    "too long for its part": (
        lambda folder: folder / ("x" * 235 + ".safetensors"),
        "name too long",
        "shorter",
    ),
}


@pytest.mark.skipif(os.name == "nt", reason="the words are those of POSIX")
@pytest.mark.parametrize("what", NO_PLACE)
def test_a_place_where_no_file_can_be_is_told_with_what_to_do(write, ernie, tmp_path, what):
    place, message, hint = NO_PLACE[what]

    with pytest.raises(OutputError, match=message) as caught:
        convert(Checkpoint(write(ernie)), place(tmp_path), Recipe(FP8))

    assert hint in caught.value.hint
    assert "goes on" not in caught.value.hint


@pytest.mark.parametrize(
    ("number", "hint", "more"),
    [
        (errno.EACCES, "choose a folder and a file that may be written", ""),
        (errno.EROFS, "choose a folder and a file that may be written", ""),
        (errno.ENOSPC, "make room on this disk", "; the same command goes on"),
        (errno.EIO, "check the disk", "; the same command goes on"),
    ],
)
def test_what_the_system_refuses_is_told_with_what_to_do(target, number, hint, more):
    error = OSError(number, os.strerror(number))

    assert cannot_write(target, error, goes_on=True).hint == hint + more
    assert cannot_write(target, error, goes_on=False).hint == hint


def test_what_is_written_already_needs_no_room(write, ernie, target, monkeypatch):
    source = Checkpoint(write(ernie))

    def stop(now: Progress) -> None:
        if now.stage == "converting" and now.done > now.total * 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, target, Recipe(FP8), stop)
    part = target.with_name(f"{target.name}.part")
    with part.open("r+b") as file:
        file.truncate(part.stat().st_size + 5_000_000)  # a hole at its end
    needed = size_after(source, select(source, "", FP8, ())[1], FP8) - part.stat().st_blocks * 512
    free = [needed - 100_000, needed + 100_000]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, free.pop(0)))

    with pytest.raises(OutputError, match="too full"):
        convert(source, target, Recipe(FP8))
    convert(source, target, Recipe(FP8))


def test_what_stands_in_the_way_is_found_before_the_work(write, ernie, target, monkeypatch):
    source = Checkpoint(write(ernie))
    target.mkdir()

    with pytest.raises(OutputError, match="is a folder"):
        check_before(source, target, False, 1)
    target.rmdir()
    with pytest.raises(OutputError, match="cannot be written") as caught:
        check_before(source, source.path / "target.safetensors", False, 1)
    assert "goes on" not in caught.value.hint
    with pytest.raises(OutputError, match="too full"):
        check_before(source, target, False, 1 << 60)
    check_before(source, target, False, 1000)

    assert [path.name for path in target.parent.iterdir()] == ["source.safetensors"]


# The budget


@pytest.mark.parametrize("budget", [1, 2, -0.1, float("nan")])
def test_a_budget_that_is_no_share_is_refused(budget):
    with pytest.raises(CheckpointError, match="from 0 to below 1"):
        Recipe(FP8, budget=budget)


def test_a_budget_that_keeps_all_layers_leaves_nothing(write, target):
    with pytest.raises(CheckpointError, match="the budget keeps every layer"):
        convert(
            Checkpoint(write({"novel.0.a.weight": torch.randn(16, 16).bfloat16()})),
            target,
            Recipe(FP8, budget=0.99),
        )

    assert [path.name for path in target.parent.iterdir()] == ["source.safetensors"]
