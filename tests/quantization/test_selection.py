"""Given the layers of an unknown model, expect what becomes of each."""

from __future__ import annotations

import pytest
import torch

from promptmill.errors import CheckpointError
from promptmill.quantization.checkpoint import Checkpoint
from promptmill.quantization.formats import FORMATS
from promptmill.quantization.selection import select


@pytest.fixture
def chosen(write):
    def chosen(form, **shapes):
        path = write({f"blocks.0.{name}.weight": torch.zeros(shape) for name, shape in shapes.items()})
        _, layers = select(Checkpoint(path), "a file", FORMATS[form], ())
        return {layer.name.removeprefix("blocks.0."): layer for layer in layers}

    return chosen


def test_a_pattern_that_finds_no_layer_is_refused(write):
    source = Checkpoint(write({"blocks.0.fc.weight": torch.zeros(64, 64)}))

    with pytest.raises(CheckpointError, match="--keep finds no layer") as raised:
        select(source, "a file", FORMATS["fp8"], ("fc", r"fc\.wieght"))

    assert raised.value.value == r"fc\.wieght"
    assert raised.value.hint == "one is blocks.0.fc"


def test_of_modulation_only_the_weight_is_rounded(chosen):
    layers = chosen("fp8", img_mod=(64, 64), fc=(64, 64))

    assert not any(layer.why_kept for layer in layers.values())
    assert [name for name, layer in layers.items() if layer.weight_only] == ["img_mod"]


@pytest.mark.parametrize(
    ("form", "why"), [("fp8", ""), ("int8", ""), ("nvfp4", "ComfyUI reads the model's size")]
)
def test_what_comfyui_reads_sizes_from_keeps_its_shape(chosen, form, why):
    layers = chosen(form, **{"transformer_blocks.0.attn2.to_k": (64, 64), "fc": (64, 64)})

    assert layers["transformer_blocks.0.attn2.to_k"].why_kept.startswith(why)
    assert bool(layers["transformer_blocks.0.attn2.to_k"].why_kept) is bool(why)
    assert not layers["fc"].why_kept
