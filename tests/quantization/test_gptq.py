"""Given what a layer multiplies, expect a rounding that spoils less of its output, and only where that is certain."""

from __future__ import annotations

from math import isfinite

import pytest
import torch
from torch import Tensor

from promptmill.quantization.calibration import Moments
from promptmill.quantization.formats import FORMATS, Quantized, relative_error, rotated, rotation_group
from promptmill.quantization.gptq import DAMPING, GRIDS, gptq, round_by_hessian

FEATURES = 1024


def related_inputs(tokens: int, features: int, seed: int = 0) -> Tensor:
    """Features that go together: each token is a mixture of a few directions, and some noise."""
    directions = torch.randn(features // 4, features, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(tokens, features // 4, generator=generator) @ directions
    return mixed + torch.randn(tokens, features, generator=generator)


def moments_of(training: Tensor, held_out: Tensor) -> Moments:
    moments = Moments.zeros(training.shape[1])
    moments.add(training, held_out=False)
    moments.add(held_out, held_out=True)
    return moments


def slow_gptq(weight: Tensor, hessian: Tensor, grid: object) -> Tensor:
    """The same by the paper's equation 2, which inverts the Hessian of what is left at every column, in fp64."""
    weight, hessian = weight.double(), hessian.double()
    hessian += DAMPING * hessian.diagonal().mean() * torch.eye(len(hessian))
    rounded = torch.empty_like(weight)
    for column in range(weight.shape[1]):
        inverse = torch.linalg.inv(hessian[column:, column:])
        rounded[:, column] = grid(weight[:, column].float())  # type: ignore[operator]
        error = (weight[:, column] - rounded[:, column]) / inverse[0, 0]
        weight[:, column:] -= torch.outer(error, inverse[0])
    return rounded.float()


@pytest.mark.parametrize("dtype", GRIDS, ids=str)
@pytest.mark.parametrize("features", [40, 300], ids=["one block", "three blocks"])
def test_it_rounds_as_the_slow_reference_does(dtype: torch.dtype, features: int) -> None:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(16, features, generator=generator) * 20
    inputs = related_inputs(4 * features, features)

    found = gptq(weight, inputs.T @ inputs, GRIDS[dtype])

    wanted = slow_gptq(weight, inputs.T @ inputs, GRIDS[dtype])
    assert (found == wanted).float().mean() > 0.995, "but for ties that fp32 decides otherwise"
    assert relative_error(found, wanted) < 0.005
    assert not torch.equal(found, GRIDS[dtype](weight)), "and not to the nearest"
    assert torch.equal(found, found.to(dtype).float()), "on the grid"


@pytest.mark.parametrize("seed", range(3))
def test_where_fp32_does_not_suffice_it_computes_in_fp64(seed: int) -> None:
    """A Hessian half of whose eigenvalues are lost in fp32's rounding, even with the damping."""
    torch.manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(256, 256, dtype=torch.float64))[0]
    damped = (basis * torch.tensor([1.0, 10**-6.9]).repeat_interleave(128)) @ basis.T
    hessian = damped - DAMPING / (1 + DAMPING) * damped.diagonal().mean() * torch.eye(256)
    with pytest.raises(torch.linalg.LinAlgError):
        torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped.float())))

    found = gptq(torch.randn(4, 256), hessian.float(), GRIDS[torch.int8])

    assert torch.isfinite(found).all()


@pytest.mark.parametrize("group", [16, 64, 256])
def test_the_rotation_is_the_one_of_the_int8_kernels(group: int) -> None:
    features = 16 * 17 if group == 16 else 64 * 3 if group == 64 else 512
    assert rotation_group(features) == group
    weight = torch.randn(32, features)

    nearest = FORMATS["int8"].quantize(weight).tensors

    turned = rotated(weight, group)
    assert torch.equal(nearest["weight"].float(), GRIDS[torch.int8](turned / nearest["weight_scale"]))
    assert torch.allclose(rotated(turned, group), weight, atol=1e-5)


def int8_output(quantized: Quantized, x: Tensor) -> Tensor:
    tensors, config = quantized.tensors, quantized.config
    output: Tensor = torch.ops.comfy_kitchen.int8_linear(
        x, tensors["weight"], tensors["weight_scale"], None, 0, True, config["convrot_groupsize"]
    )
    return output


class Layer:
    """A weight of Student's t with strong columns; inputs with strong channels, or single large values."""

    def __init__(self, kind: str) -> None:
        torch.manual_seed(0)
        self.kind = kind
        self.weight = torch.distributions.StudentT(4.0).sample((FEATURES, FEATURES)) * 0.02
        self.weight[:, torch.randperm(FEATURES)[: FEATURES // 200]] *= 4
        self.special = torch.randperm(FEATURES)[: FEATURES // 100 if kind == "channels" else 4]

    def inputs(self, tokens: int) -> Tensor:
        x = torch.randn(tokens, FEATURES)
        if self.kind == "channels":
            x[:, self.special] *= 30
        if self.kind == "massive":
            x[torch.randperm(tokens)[: tokens // 64, None], self.special] = 2000.0
        return x

    def moments(self, tokens: int = 8 * FEATURES) -> Moments:
        return moments_of(self.inputs(tokens), self.inputs(2 * FEATURES))


@pytest.mark.parametrize(("kind", "ratio"), [("channels", 1.02 / 1.39), ("massive", 0.97 / 1.50)])
def test_int8_gains_what_was_published(kind: str, ratio: float) -> None:
    """On 512 further tokens, with the activations in INT8 as well."""
    layer = Layer(kind)
    x = layer.inputs(512)
    nearest = relative_error(int8_output(FORMATS["int8"].quantize(layer.weight), x), x @ layer.weight.T)

    rounding = round_by_hessian(FORMATS["int8"], layer.weight, layer.moments())

    assert rounding.quantized is not None
    assert relative_error(int8_output(rounding.quantized, x), x @ layer.weight.T) < 1.1 * ratio * nearest


def test_fp8_gains_where_inputs_go_together() -> None:
    weight = torch.randn(64, 256)
    moments = moments_of(related_inputs(8 * 256, 256, seed=3), related_inputs(512, 256, seed=4))
    x = related_inputs(512, 256, seed=5)

    rounding = round_by_hessian(FORMATS["fp8"], weight, moments)

    assert rounding.quantized is not None
    nearest, found = (
        relative_error(x @ FORMATS["fp8"].dequantize(quantized, (64, 256)).T, x @ weight.T)
        for quantized in (FORMATS["fp8"].quantize(weight), rounding.quantized)
    )
    assert found < 0.8 * nearest
    assert rounding.nearest == pytest.approx(nearest, rel=0.1), "the held-out error is that of the outputs"
    assert rounding.hessian == pytest.approx(found, rel=0.1)


@pytest.mark.parametrize("name", ["fp8", "int8"])
def test_what_does_not_help_held_out_inputs_is_not_kept(name: str) -> None:
    """Features that have nothing to do with each other: all that the training inputs tell is chance."""
    generator = torch.Generator().manual_seed(0)
    moments = moments_of(
        torch.randn(8 * 256, 256, generator=generator), torch.randn(512, 256, generator=generator)
    )

    rounding = round_by_hessian(FORMATS[name], torch.randn(64, 256), moments)

    assert rounding.quantized is None
    assert rounding.hessian > rounding.nearest


@pytest.mark.parametrize("name", ["fp8", "int8"])
@pytest.mark.parametrize("silent", ["weight", "training", "held out"])
def test_where_nothing_comes_out_nothing_is_gained(name: str, silent: str) -> None:
    inputs = {part: torch.randn(2048, 256) * (part != silent) for part in ("training", "held out")}
    weight = torch.randn(64, 256) * (silent != "weight")

    rounding = round_by_hessian(FORMATS[name], weight, moments_of(inputs["training"], inputs["held out"]))

    assert not rounding.helps
    assert isfinite(rounding.nearest)
    assert isfinite(rounding.hessian)


@pytest.mark.parametrize("name", ["fp8", "int8"])
def test_what_is_stored_has_the_plan_of_the_format(name: str) -> None:
    fmt = FORMATS[name]
    moments = moments_of(related_inputs(8 * 256, 256), related_inputs(512, 256, seed=9))

    found = round_by_hessian(fmt, torch.randn(64, 256), moments).quantized

    assert found is not None
    stored = {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in found.tensors.items()}
    assert stored == fmt.plan((64, 256))
    assert found.config == fmt.config((64, 256))
