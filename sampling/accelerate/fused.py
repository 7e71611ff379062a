"""What blocks call besides their layers, in plain PyTorch, which a compiler fuses with what is around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from comfy.quant_ops import ck
from torch import Tensor
from torch.nn import functional


def rms_rope_split_half(
    q: Tensor,
    k: Tensor,
    freqs_cis: Tensor,
    q_scale: Tensor,
    k_scale: Tensor | None = None,
    epsilon: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """
    RMS norms of queries and keys, then each pair of channels (i, i + D / 2) multiplied by a matrix of its position.

    :param q: [B, S, heads, D], as k.
    :param freqs_cis: [B or 1, S, 1, D / 2, 2, 2]; its type, fp32, is computed in.
    :param q_scale: [D], as k_scale.
    """
    return (
        _turned(q, freqs_cis, q_scale, epsilon),
        _turned(k, freqs_cis, q_scale if k_scale is None else k_scale, epsilon),
    )


def _turned(x: Tensor, matrices: Tensor, scale: Tensor, epsilon: float) -> Tensor:
    """By the diagonal, and with the halves of x swapped by what is beside it: no piece is put together, so all is one kernel."""
    normed = functional.rms_norm(x, x.shape[-1:], scale, epsilon).to(matrices.dtype)
    halves = normed.reshape(*x.shape[:-1], 2, -1)
    kept = matrices.diagonal(dim1=-2, dim2=-1).mT
    crossed = matrices.flip(-1).diagonal(dim1=-2, dim2=-1).mT
    made = halves * kept + halves.flip(-2) * crossed
    return made.flatten(-2).to(x.dtype)


def rms_rope(
    q: Tensor,
    k: Tensor,
    freqs_cis: Tensor,
    q_scale: Tensor,
    k_scale: Tensor | None = None,
    epsilon: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """As `rms_rope_split_half`, for pairs of channels (2 i, 2 i + 1)."""
    return (
        rms_rope1(q, freqs_cis, q_scale, epsilon),
        rms_rope1(k, freqs_cis, q_scale if k_scale is None else k_scale, epsilon),
    )


def rms_rope1(x: Tensor, freqs_cis: Tensor, scale: Tensor, epsilon: float = 1e-6) -> Tensor:
    """The RMS norm, then `apply_rope1`."""
    return apply_rope1(functional.rms_norm(x, x.shape[-1:], scale, epsilon), freqs_cis)


def apply_rope(xq: Tensor, xk: Tensor, freqs_cis: Tensor) -> tuple[Tensor, Tensor]:
    """`apply_rope1` of queries and keys."""
    return apply_rope1(xq, freqs_cis), apply_rope1(xk, freqs_cis)


def apply_rope1(x: Tensor, freqs_cis: Tensor) -> Tensor:
    """Each pair of channels (2 i, 2 i + 1) of x [..., D] multiplied by a matrix [..., D / 2, 2, 2] of its position."""
    pairs = x.to(freqs_cis.dtype).reshape(*x.shape[:-1], -1, 2)
    kept = freqs_cis.diagonal(dim1=-2, dim2=-1)
    crossed = freqs_cis.flip(-1).diagonal(dim1=-2, dim2=-1)
    return (pairs * kept + pairs.flip(-1) * crossed).flatten(-2).to(x.dtype)


def in_planes(matrices: Tensor) -> Tensor:
    """The same [..., D / 2, 2, 2], with each of the four entries contiguous along D / 2."""
    return matrices.movedim(-3, -1).contiguous().movedim(-1, -3)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """
    The Gaussian error linear unit, in fp32, within 1e-6: libdevice's erf and tanh take longer than reading and writing.

    The error function is formula 7.1.26 of Abramowitz and Stegun, Handbook of Mathematical Functions (1964).
    """
    wide = input.float()
    if approximate == "tanh":
        return (wide * torch.sigmoid(1.5957691216057308 * (wide + 0.044715 * wide**3))).to(input.dtype)
    z = wide.abs() * 0.7071067811865476
    t = 1 / (1 + 0.3275911 * z)
    series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    tail = 0.5 * series * torch.exp(-z * z)
    return (wide * torch.where(wide < 0, tail, 1 - tail)).to(input.dtype)


IN_GRAPHS: dict[tuple[Any, str], Callable[..., Any]] = {
    (ck, "rms_rope_split_half"): rms_rope_split_half,
    (ck, "rms_rope"): rms_rope,
    (ck, "rms_rope1"): rms_rope1,
    (ck, "apply_rope"): apply_rope,
    (ck, "apply_rope1"): apply_rope1,
    (functional, "gelu"): gelu,
}
"""Where a function of that name stands that is replaced."""
