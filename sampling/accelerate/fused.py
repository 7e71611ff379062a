"""comfy-kitchen's rotary embedding in plain PyTorch, which a compiler fuses with what is around it."""

from __future__ import annotations

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


IN_GRAPHS = {"rms_rope_split_half": rms_rope_split_half}
"""Functions of comfy-kitchen, by name."""
