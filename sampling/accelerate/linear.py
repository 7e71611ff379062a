"""Linear layers of plain tensors, to be compiled: bf16, FP8 and INT8."""

from __future__ import annotations

import sys
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

FP8_MAX, INT8_MAX = 448.0, 127.0
ROWWISE = sys.platform == "linux"
"""Whether the FP8 product of a Hopper card scales rows itself; elsewhere its output is scaled."""
INT8_SMALLEST = 32
"""Rows below which torch._int_mm does not work (16), or does not pay."""


class Weights(NamedTuple):
    """A linear layer. ``weight`` [N, K] is of the compute type, FP8 (times ``scale``) or INT8 (times ``scale`` [1] or [N])."""

    weight: Tensor
    bias: Tensor | None = None
    scale: Tensor | None = None
    input_scale: Tensor | None = None
    input_factor: Tensor | None = None
    """1 / input_scale."""
    rotation: Tensor | None = None
    quantize_input: bool = True


class LastInput:
    """What was quantized last: layers with the same input (query, key and value; gate and up) share it."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Before a graph ends, which would return it otherwise."""
        self.x: Tensor | None = None
        self.how: Weights | None = None
        self.found: tuple[Tensor, Tensor] | None = None

    def quantized(self, x: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
        """x [..., K] as rows [M, K] for these weights, and the step of all or of each row [M, 1]."""
        how = self.how
        if (
            self.found is None
            or how is None
            or x is not self.x
            or weights.input_scale is not how.input_scale
            or weights.rotation is not how.rotation
            or weights.weight.dtype != how.weight.dtype
        ):
            self.x, self.how = x, weights
            self.found = _quantized(x.reshape(-1, x.shape[-1]), weights)
        return self.found


class Linear(torch.nn.Module):
    """Stands for ComfyUI's Linear in a compiled block; ``weights`` is set before each call."""

    weights: Weights | None = None

    def __init__(self, last: LastInput) -> None:
        super().__init__()
        self._last = last

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., K]; returns [..., N] of its type."""
        weights = self.weights
        assert weights is not None
        size, width = weights.weight.shape
        if weights.scale is None:
            return functional.linear(x, weights.weight, weights.bias)
        if not _has_product(x.numel() // width, weights):
            return functional.linear(_rotated(x, weights), _dequantized(weights, x.dtype), weights.bias)
        quantized, step = self._last.quantized(x, weights)
        product = _int8 if weights.weight.dtype == torch.int8 else _fp8
        made = product(quantized, step, weights, x.dtype)
        if weights.bias is not None:
            made = made + weights.bias
        return made.reshape(*x.shape[:-1], size)


def _has_product(rows: int, weights: Weights) -> bool:
    size, width = weights.weight.shape
    if weights.weight.dtype == torch.int8:
        return rows >= INT8_SMALLEST and size % 8 == 0 and width % 8 == 0
    return weights.quantize_input and size % 16 == 0 and width % 16 == 0


def _dequantized(weights: Weights, dtype: torch.dtype) -> Tensor:
    assert weights.scale is not None
    return (weights.weight.float() * weights.scale.reshape(-1, 1)).to(dtype)


def _rotated(x: Tensor, weights: Weights) -> Tensor:
    """In groups, by the matrix by which ConvRot turned the weights: x @ W.T stays as it is."""
    if weights.rotation is None:
        return x
    return (x.reshape(-1, len(weights.rotation)) @ weights.rotation.to(x.dtype)).reshape(x.shape)


def _quantized(x: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    if weights.weight.dtype == torch.int8:
        x = _rotated(x, weights)
        step = _step(x, INT8_MAX)
        return (x.float() * (1 / step)).round().to(torch.int8), step
    if weights.input_scale is None or weights.input_factor is None:
        step = _step(x, FP8_MAX)
        return (x.float() * (1 / step)).to(torch.float8_e4m3fn), step
    scaled = x.float() * weights.input_factor
    return scaled.clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn), weights.input_scale


def _step(x: Tensor, largest: float) -> Tensor:
    return (x.abs().amax(dim=-1, keepdim=True).float() / largest).clamp(min=1e-30)


def _int8(x: Tensor, step: Tensor, weights: Weights, dtype: torch.dtype) -> Tensor:
    assert weights.scale is not None
    return (torch._int_mm(x, weights.weight.t()).float() * (step * weights.scale)).to(dtype)


def _fp8(x: Tensor, step: Tensor, weights: Weights, dtype: torch.dtype) -> Tensor:
    """The fast accumulation is cuBLAS's for inference: partial sums of 14 bits, promoted at intervals."""
    weight, scale = weights.weight.t(), weights.scale
    assert scale is not None
    if step.ndim == 0:
        return torch._scaled_mm(x, weight, step, scale, out_dtype=dtype, use_fast_accum=True)
    if ROWWISE and dtype == torch.bfloat16 and x.is_cuda:
        ones = torch.ones(1, weight.shape[1], device=x.device)
        return torch._scaled_mm(x, weight, step * scale, ones, out_dtype=dtype, use_fast_accum=True)
    one = torch.ones((), device=x.device)
    wide = torch.float32 if dtype == torch.float16 else dtype
    made = torch._scaled_mm(x, weight, one, scale, out_dtype=wide, use_fast_accum=True)
    return (made.float() * step).to(dtype)
