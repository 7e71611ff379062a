"""Small files in the shape of real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

WriteFile = Callable[..., Path]


@pytest.fixture
def ernie() -> dict[str, Tensor]:
    """Two blocks of an ERNIE-Image: six layers to quantize, two matrices to keep."""
    noise = torch.Generator().manual_seed(0)
    shapes = {"text_proj": (256, 96), "adaLN_modulation.1": (512, 256), "norm": (256,)}
    for block in range(2):
        shapes |= {
            f"layers.{block}.self_attention.to_q": (256, 256),
            f"layers.{block}.mlp.gate_proj": (768, 256),
            f"layers.{block}.mlp.linear_fc2": (256, 768),
        }
    tensors = {
        f"{name}.weight": torch.randn(shape, generator=noise).bfloat16() for name, shape in shapes.items()
    }
    return tensors | {"final_linear.bias": torch.randn(7, generator=noise), "odd": torch.arange(6).byte()}


@pytest.fixture
def unknown(ernie: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same under names that are of no architecture; FP8 has the numbers of all layers but one."""
    return {
        name.replace("layers.", "novel."): tensor if "0.mlp.gate" in name else tensor.sign()
        for name, tensor in ernie.items()
    }


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    """Write tensors to a .safetensors file."""

    def write(tensors: dict[str, Tensor], name: str = "source.safetensors", **metadata: str) -> Path:
        path = tmp_path / name
        save_file(tensors, path, metadata or None)
        return path

    return write


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target.safetensors"
