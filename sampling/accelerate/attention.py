"""ComfyUI's attention as one operation of a compiled graph, which sees none of what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from comfy import ops
from torch import Tensor
from torch.nn.attention import SDPBackend

HOPPER = (9, 0)

_function: Callable[..., Any] | None = None


@contextmanager
def attending(function: Callable[..., Any]) -> Iterator[None]:
    """While open, `attention` calls this function."""
    global _function
    _function = function
    try:
        yield
    finally:
        _function = None


@contextmanager
def cudnn_first(capability: tuple[int, int] | None) -> Iterator[None]:
    """
    While open, ComfyUI's PyTorch attention asks for cuDNN's kernels first, on cards of a capability where they were measured.

    On an H200 they reached 620 to 690 TFLOP/s with heads of 128, the flash attention that ComfyUI asks for first 330 to 360. Attention
    functions that the user installed are none of PyTorch's, and go on as they are.
    """
    whole = getattr(ops, "SDPA_BACKEND_PRIORITY", [])
    if capability != HOPPER:
        yield
        return
    ops.SDPA_BACKEND_PRIORITY = sorted(whole, key=lambda backend: backend != SDPBackend.CUDNN_ATTENTION)
    try:
        yield
    finally:
        ops.SDPA_BACKEND_PRIORITY = whole


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    mask: Tensor | None = None,
    attn_precision: Any = None,
    skip_reshape: bool = False,
    skip_output_reshape: bool = False,
    transformer_options: Any = None,
) -> Any:
    """Of the shape of ComfyUI's optimized_attention, whose keys and values may have their heads apart in any case."""
    if not skip_reshape:
        k, v = k.flatten(2), v.flatten(2)
    return _attention(q, k, v, heads, mask, skip_reshape, skip_output_reshape)


SCHEMA = "(Tensor q, Tensor k, Tensor v, int heads, Tensor? mask, bool as_heads, bool give_heads) -> Tensor"


@torch.library.custom_op("promptmill::attention", mutates_args=(), schema=SCHEMA)
def _attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None, as_heads: bool, give_heads: bool
) -> Tensor:
    assert _function is not None
    with cudnn_first(torch.cuda.get_device_capability(q.device) if q.is_cuda else None):
        found: Tensor = _function(
            q, k, v, heads, mask=mask, skip_reshape=as_heads, skip_output_reshape=give_heads
        )
    return found.contiguous()


@_attention.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None, as_heads: bool, give_heads: bool
) -> Tensor:
    rows, length = q.shape[0], q.shape[2 if as_heads else 1]
    width = v.shape[-1] if as_heads else v.shape[-1] // heads
    return q.new_empty((rows, heads, length, width) if give_heads else (rows, length, heads * width))
