"""Given weights and activations as models have them, expect each format's error to be the published one."""

from __future__ import annotations

import pytest
import torch
from comfy_kitchen.tensor import TensorCoreFP8Layout

from promptmill.errors import CheckpointError
from promptmill.quantization.formats import FORMATS, Quantized, as_tensor, relative_error, rotation_group

FEATURES, TOKENS = 2048, 512
SHAPES = [(64, 96), (32, 64), (128, 512), (256, 2432), (4096, 1024)]
ALL = pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)


def matrices() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Gaussian ones, weights of Student's t with strong columns, activations with strong channels or single large values."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    gauss = torch.randn(TOKENS, FEATURES, generator=generator)
    weight = torch.distributions.StudentT(4.0).sample((FEATURES, FEATURES)) * 0.02
    weight[:, torch.randperm(FEATURES)[: FEATURES // 200]] *= 4
    channels, massive = gauss.clone(), gauss.clone()
    channels[:, torch.randperm(FEATURES)[: FEATURES // 100]] *= 30
    massive[:8, torch.randperm(FEATURES)[:4, None].T] = 2000.0
    return {
        "gauss": (torch.randn(FEATURES, FEATURES, generator=generator) * 0.02, gauss),
        "channels": (weight, channels),
        "massive": (weight, massive),
    }


MATRICES = matrices()


def fp8_output(quantized: Quantized, x: torch.Tensor, scale: float) -> torch.Tensor:
    weight = FORMATS["fp8"].dequantize(quantized, (FEATURES, FEATURES))
    return (
        TensorCoreFP8Layout.dequantize(*TensorCoreFP8Layout.quantize(x, scale=torch.tensor(scale))) @ weight.T
    )


def int8_output(quantized: Quantized, x: torch.Tensor) -> torch.Tensor:
    tensors, config = quantized.tensors, quantized.config
    return torch.ops.comfy_kitchen.int8_linear(
        x, tensors["weight"], tensors["weight_scale"], None, 0, config["convrot"], config["convrot_groupsize"]
    )


@pytest.mark.parametrize(("kind", "percent"), [("gauss", 3.74), ("channels", 3.74), ("massive", 4.06)])
def test_fp8_with_a_calibrated_scale(kind, percent):
    weight, x = MATRICES[kind]
    found = fp8_output(FORMATS["fp8"].quantize(weight), x, 2 * float(x.abs().max()) / 448)
    assert 100 * relative_error(found, x @ weight.T) <= 1.1 * percent


def test_fp8_without_a_scale_clips_massive_activations():
    weight, x = MATRICES["massive"]
    found = fp8_output(FORMATS["fp8"].quantize(weight), x, 1.0)
    assert relative_error(found, x @ weight.T) > 0.5


@pytest.mark.parametrize(("kind", "percent"), [("gauss", 1.23), ("channels", 1.39), ("massive", 1.50)])
def test_int8_is_rotated(kind, percent):
    weight, x = MATRICES[kind]
    found = int8_output(FORMATS["int8"].quantize(weight), x)
    assert 100 * relative_error(found, x @ weight.T) <= 1.1 * percent


@ALL
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_plan_is_what_comes(fmt, shape):
    found = fmt.quantize(torch.randn(shape)).tensors
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in found.items()} == fmt.plan(shape)


@ALL
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_rounded_weight_is_near(fmt, shape):
    weight = torch.randn(shape)
    error = relative_error(fmt.dequantize(fmt.quantize(weight), shape), weight)
    assert error < {"fp8": 0.03, "int8": 0.01, "nvfp4": 0.1}[fmt.name]


@ALL
def test_zeros_stay_zeros(fmt):
    assert not fmt.dequantize(fmt.quantize(torch.zeros(64, 64)), (64, 64)).any()


@ALL
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_a_number_is_refused(fmt, bad):
    weight = torch.randn(64, 64)
    weight[3, 5] = bad
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        fmt.quantize(weight)


@ALL
def test_vectors_convolutions_and_odd_shapes_do_not_fit(fmt):
    assert fmt.fits((64, 64))
    assert not any(fmt.fits(shape) for shape in [(64,), (64, 64, 3, 3), (64, 63), (63, 64)])


@pytest.mark.parametrize(("features", "group"), [(4096, 256), (2432, 64), (1152, 64), (96, 16)], ids=str)
def test_the_largest_rotation_that_divides(features, group):
    assert rotation_group(features) == group


def test_the_configuration_is_json():
    assert bytes(as_tensor({"format": "nvfp4"}).tolist()) == b'{"format": "nvfp4"}'
