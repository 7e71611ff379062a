"""Prompts of different lengths in one forward of ERNIE-Image.

ERNIE-Image puts the image at the position after the last text token and lets every token attend to every other, so a
padded prompt is another picture. Here each row keeps its own positions, and padding is masked out. The forward is ComfyUI's
own, with its weights, patches and offloading: hooks change what goes into its position embedding and its layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from comfy.conds import CONDRegular
from comfy.ldm.ernie import model as ernie

LENGTHS = "promptmill_text_lengths"

ATTENTION = {"attention_basic", "attention_sub_quad", "attention_split", "attention_pytorch"}
"""ComfyUI's attention functions that compute the same with an additive mask; others quantize, or leave the mask to chance."""


def can_mask(diffusion_model: Any, options: dict[str, Any]) -> bool:
    """Whether this forward honours a mask: ERNIE-Image itself, not compiled, not copied to other devices."""
    return (
        type(diffusion_model) is ernie.ErnieImageModel
        and ernie.optimized_attention.__name__ in ATTENTION
        and not any(options["transformer_options"].get("wrappers", {}).values())
        and "multigpu_clones" not in options
    )


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
            LENGTHS: CONDRegular(torch.tensor([length])),
        }


@contextmanager
def masked(model: ernie.ErnieImageModel) -> Iterator[None]:
    """While open, forwards that are given the lengths of their texts see no padding; others are as ever."""
    missing: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    image = 0

    def begin(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        nonlocal missing, mask, image
        missing = mask = None
        lengths = kwargs.pop(LENGTHS, None)
        if lengths is not None:
            x, text = args[0], kwargs["context"]
            image = (x.shape[2] // model.patch_size) * (x.shape[3] // model.patch_size)
            missing = text.shape[1] - lengths
            mask = x.new_zeros(len(x), 1, 1, image + text.shape[1])
            padding = torch.arange(text.shape[1], device=x.device) >= lengths[:, None]
            mask[:, 0, 0, image:].masked_fill_(padding, torch.finfo(x.dtype).min)
        return args, kwargs

    def place(_: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        if missing is None:
            return args
        ids = args[0].clone()
        ids[:, :image, 0] -= missing[:, None]
        return (ids,)

    def hide(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return args, kwargs if mask is None else {**kwargs, "attention_mask": mask}

    hooks = [
        model.register_forward_pre_hook(begin, with_kwargs=True),
        model.pos_embed.register_forward_pre_hook(place),
        *(layer.register_forward_pre_hook(hide, with_kwargs=True) for layer in model.layers),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
