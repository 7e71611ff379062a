"""Prompts of different lengths in one forward of ERNIE-Image.

ERNIE-Image puts the image at the position after the last text token and lets every token attend to every other, so a
padded prompt is another picture. Here each row keeps its own positions, and attends to its own tokens only: the padding
comes last, so a row's keys are cut off before it. A mask would do the same, but the fast attention functions take none. The
forward is ComfyUI's own, with its weights, patches and offloading.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from comfy.conds import CONDConstant, CONDRegular
from comfy.ldm.ernie import model as ernie

LENGTHS = "promptmill_text_lengths"
ACCELERATED = "promptmill_accelerated"
"""The key of the one wrapper that keeps rows from their padding."""


class Lengths(CONDConstant):
    """Tokens of each row's text, as numbers: a tensor would have to come back from the card in each step, which waits for it."""

    def can_concat(self, other: Lengths) -> bool:
        """Rows of any lengths share a forward."""
        return True

    def concat(self, others: list[Lengths]) -> tuple[int, ...]:
        """All rows' lengths."""
        return tuple(length for each in (self, *others) for length in each.cond)


def can_pad(diffusion_model: Any, options: dict[str, Any]) -> bool:
    """Whether rows can be kept from their padding: ERNIE-Image itself, not compiled by others, not copied to other devices."""
    return (
        type(diffusion_model) is ernie.ErnieImageModel
        and wrappers_of(options) <= {ACCELERATED}
        and "multigpu_clones" not in options
    )


def wrappers_of(options: dict[str, Any]) -> set[str]:
    """The keys of what is wrapped around a model's forward, of any kind."""
    return {key for kind in options["transformer_options"].get("wrappers", {}).values() for key in kind}


def pad(entries: list[dict[str, Any]]) -> None:
    """Pad the texts of processed conditionings to the longest one, and note their lengths; nothing when all are equal."""
    lengths = [entry["model_conds"]["c_crossattn"].cond.shape[1] for entry in entries]
    longest = max(lengths)
    if min(lengths) == longest:
        return
    for entry, length in zip(entries, lengths, strict=True):
        text = entry["model_conds"]["c_crossattn"].cond
        padded = torch.nn.functional.pad(text, (0, 0, 0, longest - length))
        entry["model_conds"] |= {
            "c_crossattn": CONDRegular(padded),
            LENGTHS: Lengths((length,)),
        }


@contextmanager
def without_padding(model: ernie.ErnieImageModel) -> Iterator[None]:
    """While open, forwards that are given the lengths of their texts see no padding; others are as ever."""
    whole = ernie.optimized_attention
    missing: list[int] = []
    ends: list[int] = []
    image = 0

    def begin(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        nonlocal missing, ends, image
        x, text, lengths = args[0], kwargs["context"], kwargs.pop(LENGTHS, ())
        image = (x.shape[2] // model.patch_size) * (x.shape[3] // model.patch_size)
        missing = [text.shape[1] - length for length in lengths]
        ends = [image + length for length in lengths]
        return args, kwargs

    def place(_: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        ids = args[0].clone()
        for row, count in enumerate(missing):
            ids[row, :image, 0] -= count
        return (ids,)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, **options: Any) -> Any:
        if not missing:
            return whole(q, k, v, heads, **options)
        if len(set(ends)) == 1:
            return whole(q, k[:, : ends[0]], v[:, : ends[0]], heads, **options)
        rows = zip(*(tensor.chunk(len(q)) for tensor in (q, k, v)), ends, strict=True)
        return torch.cat([whole(q, k[:, :end], v[:, :end], heads, **options) for q, k, v, end in rows])

    hooks = [
        model.register_forward_pre_hook(begin, with_kwargs=True),
        model.pos_embed.register_forward_pre_hook(place),
    ]
    ernie.optimized_attention = attend
    try:
        yield
    finally:
        ernie.optimized_attention = whole
        for hook in hooks:
            hook.remove()
