"""
Rounding that looks at what a layer multiplies: GPTQ (Frantar et al. 2022, arXiv 2210.17323, algorithm 1).

The weight's columns are rounded one after the other; the error that one makes in the layer's output is taken up by those that
are still to come, as far as their inputs go together with its own (the Hessian, X^T X).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .calibration import Moments
from .formats import E4M3_MAX, Format, Quantized, rotated

BLOCK = 128
"""Columns whose errors are passed on to the rest at once."""
DAMPING = 0.01
"""Of the mean of the Hessian's diagonal, added to it."""
SMALLEST = torch.finfo(torch.float32).tiny
"""Added where all inputs were 0."""

Grid = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Rounding:
    """How a layer was rounded, and what that does to the outputs of prompts that were held out."""

    quantized: Quantized | None
    """None: to the nearest is as good, or better."""
    nearest: float
    """Relative error of the outputs with the weight rounded to the nearest."""
    hessian: float
    """The same with GPTQ's rounding."""

    @property
    def helps(self) -> bool:
        """Whether GPTQ's rounding is better."""
        return self.hessian < self.nearest


def round_by_hessian(fmt: Format, weight: Tensor, moments: Moments) -> Rounding:
    """
    Round a weight by the inputs that its layer had, if that is better for those held out than to the nearest.

    :param fmt: FP8 or INT8; the scales are those of rounding to the nearest.
    :param weight: (out features, in features) in fp32, on the device of ``moments``.
    """
    shape = (weight.shape[0], weight.shape[1])
    nearest = fmt.quantize(weight)
    error = moments.held_out_error(fmt.dequantize(nearest, shape), weight)
    hessian = moments.training
    group = nearest.config.get("convrot_groupsize")
    if group:
        weight_as_stored, hessian = rotated(weight, group), rotated(rotated(hessian, group).T, group)
    else:
        weight_as_stored = weight
    stored = nearest.tensors["weight"].dtype
    scaled = gptq(weight_as_stored / nearest.tensors["weight_scale"], hessian, GRIDS[stored])
    found = Quantized({**nearest.tensors, "weight": scaled.to(stored)}, nearest.config)
    rounding = Rounding(found, error, moments.held_out_error(fmt.dequantize(found, shape), weight))
    return rounding if rounding.helps else replace(rounding, quantized=None)


def gptq(weight: Tensor, hessian: Tensor, grid: Grid) -> Tensor:
    """
    The weight on its grid, with a small error of ``inputs @ weight.T``.

    :param weight: (out features, in features), in units in which ``grid`` rounds it.
    :param hessian: X^T X of the inputs (tokens, in features).
    :param grid: rounds a tensor to the nearest values that can be stored.
    """
    weight = weight.clone()
    rounded = torch.empty_like(weight)
    inverse = _inverse_root(hessian)
    features = weight.shape[1]
    for start in range(0, features, BLOCK):
        end = min(start + BLOCK, features)
        columns, root = weight[:, start:end], inverse[start:end, start:end]
        errors = torch.empty_like(columns)
        for column in range(end - start):
            value = grid(columns[:, column])
            errors[:, column] = (columns[:, column] - value) / root[column, column]
            columns[:, column + 1 :] -= torch.outer(errors[:, column], root[column, column + 1 :])
            rounded[:, start + column] = value
        weight[:, end:] -= errors @ inverse[start:end, end:]
    return rounded


def _inverse_root(hessian: Tensor) -> Tensor:
    """The upper Cholesky factor of the damped Hessian's inverse, in fp64 where fp32 does not suffice."""
    hessian = hessian.clone()
    diagonal = hessian.diagonal()
    diagonal += (DAMPING * diagonal.mean()).clamp_min(SMALLEST)
    try:
        return _cholesky_of_inverse(hessian)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        return _cholesky_of_inverse(hessian.double()).float()


def _cholesky_of_inverse(matrix: Tensor) -> Tensor:
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
    root: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return root


def _to_e4m3(weight: Tensor) -> Tensor:
    return weight.clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn).float()


def _to_int8(weight: Tensor) -> Tensor:
    return weight.round().clamp(-128, 127)


GRIDS: dict[torch.dtype, Grid] = {torch.float8_e4m3fn: _to_e4m3, torch.int8: _to_int8}
