"""Given weights of any magnitude, expect the error that is told to be that of what is stored."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_kitchen.registry import registry

from promptmill.errors import CheckpointError
from promptmill.quantization.formats import FORMATS, relative_error, rotated, rotation_group
from promptmill.quantization.nearest import round_to_nearest

FORMAT = pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)


@FORMAT
@pytest.mark.parametrize("magnitude", [1e-36, 1e-30, 1e-15, 1.0, 1e18, 1e30])
def test_the_error_is_true_at_any_magnitude(fmt, magnitude):
    weight = torch.randn(256, 256, generator=torch.Generator().manual_seed(0)) * magnitude

    quantized, told = round_to_nearest(weight, fmt, "here")

    stored = fmt.dequantize(quantized, (256, 256)).double()
    true = ((stored - weight).norm() / weight.double().norm()).item()
    assert told == pytest.approx(true, rel=1e-3)
    assert relative_error(stored.float(), weight) == pytest.approx(true, rel=1e-3)


@pytest.fixture
def kernel_of_a_card(monkeypatch) -> Callable[[str, Callable[..., Any]], None]:
    """Have comfy-kitchen choose a kernel of its CUDA backend, here this one."""

    def choose(name: str, kernel: Callable[..., Any]) -> None:
        monkeypatch.setitem(registry._backends, "cuda", SimpleNamespace(**{name: kernel}))
        monkeypatch.setitem(registry._capabilities, "cuda", {name})
        monkeypatch.setitem(registry._constraints, ("cuda", name), registry.get_constraints("eager", name))

    return choose


def test_nvfp4_is_rounded_without_a_kernel_that_takes_no_fp32(kernel_of_a_card):
    weight = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    expected, _ = round_to_nearest(weight, FORMATS["nvfp4"], "here")
    kernel_of_a_card("quantize_nvfp4", lambda *_, **__: pytest.fail("it takes no fp32"))

    for found in (round_to_nearest(weight, FORMATS["nvfp4"], "here")[0], FORMATS["nvfp4"].quantize(weight)):
        for name, tensor in expected.tensors.items():
            assert torch.equal(found.tensors[name].float(), tensor.float())


@pytest.mark.parametrize("features", [512, 192, 160], ids=["by 256", "by 64", "by 16"])
def test_a_kernel_that_rotates_contiguous_rows_by_256_gets_nothing_else(kernel_of_a_card, features):
    group = rotation_group(features)
    columns = torch.randn(features, 64, generator=torch.Generator().manual_seed(0)).T
    expected = rotated(columns, group)
    rotate = registry.get_implementation("rotate_int8_convrot_weight", backend="eager")

    def kernel(weight: torch.Tensor, group_size: int) -> torch.Tensor:
        assert group_size == 256
        assert weight.is_contiguous()
        return rotate(weight, group_size)

    kernel_of_a_card("rotate_int8_convrot_weight", kernel)

    assert torch.equal(rotated(columns, group), expected)


@FORMAT
def test_zeros_have_no_error(fmt):
    assert round_to_nearest(torch.zeros(64, 64), fmt, "here")[1] == 0


@FORMAT
@pytest.mark.parametrize("value", [1e100, float("inf"), float("nan")])
def test_what_fp32_cannot_hold_is_refused(fmt, value):
    weight = torch.ones(64, 64, dtype=torch.float64)
    weight[3, 5] = value

    with pytest.raises(CheckpointError, match="holds NaN or infinity"):
        round_to_nearest(weight, fmt, "here")


@FORMAT
def test_the_weight_is_left_as_it_was(fmt):
    weight = torch.randn(256, 256)
    before = weight.clone()

    round_to_nearest(weight, fmt, "here")

    assert torch.equal(weight, before)
