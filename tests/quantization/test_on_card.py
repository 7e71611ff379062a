"""Given an NVIDIA card, expect it to round as the CPU does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from promptmill.driver.engine.demo.export import export
from promptmill.quantization.calibration import Moments
from promptmill.quantization.checkpoint import Checkpoint
from promptmill.quantization.convert import convert
from promptmill.quantization.formats import FORMATS, Format
from promptmill.quantization.gptq import round_by_hessian
from promptmill.quantization.nearest import round_to_nearest
from promptmill.quantization.recipe import Recipe

pytestmark = pytest.mark.gpu

FORMAT = pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
FEATURES = pytest.mark.parametrize("features", [512, 192, 32 * 5])
"""Input features that INT8 rotates by 256, 64 and 16."""


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@FORMAT
@FEATURES
def test_to_the_nearest(fmt: Format, features: int) -> None:
    weight = noise(384, features)

    found, error = round_to_nearest(weight, fmt, "here", "cuda")

    wanted, on_cpu = round_to_nearest(weight, fmt, "here")
    assert error == pytest.approx(on_cpu, rel=1e-3)
    for name, tensor in wanted.tensors.items():
        same = found.tensors[name].float().isclose(tensor.float(), rtol=1e-5, atol=0)
        assert same.float().mean() > 0.999, name


@pytest.mark.parametrize("name", ["fp8", "int8"])
@FEATURES
def test_by_hessian(name: str, features: int) -> None:
    weight, inputs = noise(384, features), noise(4096, features // 4) @ noise(features // 4, features, seed=1)
    roundings = []
    for device in ("cuda", "cpu"):
        moments = Moments.zeros(features, device)
        moments.add(inputs[:3072].to(device), held_out=False)
        moments.add(inputs[3072:].to(device), held_out=True)
        roundings.append(round_by_hessian(FORMATS[name], weight.to(device), moments))

    found, wanted = roundings

    assert found.helps
    assert wanted.helps
    assert found.hessian == pytest.approx(wanted.hessian, rel=0.05)


@FORMAT
def test_the_demo_checkpoint(fmt: Format, tmp_path: Path) -> None:
    source = Checkpoint(export(tmp_path))
    reports = [
        convert(source, tmp_path / f"{device}.safetensors", Recipe(fmt), device=device)
        for device in ("cuda", "cpu")
    ]

    found, wanted = ({layer.name: layer.error for layer in report.quantized} for report in reports)
    assert found == pytest.approx(wanted, rel=0.01)
