"""The diffusion models that are accelerated: where their blocks are, how these are called, and how prompts get equal sizes.

A graph is compiled for one number of tokens, so the text of a block is padded to a size that prompts of other lengths share.
The padding comes before the first token, and attention sees no key of it: keys are cut off at their front, for the fast attention
functions take no mask. What else a block does, it does with each token by itself, so what is left after the padding is cut off
again is the same. ERNIE-Image's text comes last and is padded before the first block (`sampling/padding.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from comfy.ldm.ernie import model as ernie
from comfy.ldm.flux import math as flux_attention
from comfy.ldm.flux import model as flux
from comfy.ldm.lumina import model as lumina
from comfy.ldm.modules.diffusionmodules import mmdit
from comfy.ldm.qwen_image import model as qwen_image
from torch.nn.functional import pad

BUCKET = 128
"""Tokens of a block are a multiple of this, so that prompts of other lengths need no other graph."""


@dataclass(frozen=True)
class Kind:
    """How the blocks of one list are called."""

    streams: tuple[str, ...]
    """The arguments [B, S, C] that a block returns anew, in the order in which it returns them."""
    unnamed: tuple[str, ...] = ()
    """The arguments that are given by their place."""
    text: str = ""
    """The stream that begins with the text, and the attention with it; none: its length is not the prompt's."""
    rope: tuple[str, int] = ("", 0)
    """The argument with the matrices of all tokens, and its dimension of tokens."""
    of_tokens: tuple[str, ...] = ()
    """Other arguments that tell tokens apart: with one of these nothing is padded."""
    instead: Mapping[str, Any] = field(default_factory=lambda: {"transformer_options": {}})
    """What a graph is given in place of arguments whose content changes or cannot be compiled."""
    patches: tuple[str, ...] = ()
    """What others add inside of a block, in the options: such a block goes ComfyUI's way."""


@dataclass(frozen=True)
class Architecture:
    """A class of diffusion models."""

    blocks: Mapping[str, Kind]
    """The lists of blocks."""
    attention: tuple[Any, str]
    """A Python module, and the name there of the attention function that the blocks call."""


LUMINA = Kind(
    ("x",),
    ("x", "x_mask", "freqs_cis", "adaln_input"),
    text="x",
    rope=("freqs_cis", 1),
    of_tokens=("x_mask", "timestep_zero_index"),
)
INSIDE = ("attn1_patch", "attn1_output_patch")
DOUBLE = Kind(("img", "txt"), text="txt", rope=("pe", 2), of_tokens=("attn_mask",), patches=INSIDE)
SINGLE = Kind(
    ("x",), ("x",), text="x", rope=("pe", 2), of_tokens=("attn_mask", "modulation_dims"), patches=INSIDE
)
QWEN_IMAGE = Kind(
    ("encoder_hidden_states", "hidden_states"),
    text="encoder_hidden_states",
    rope=("image_rotary_emb", 2),
    of_tokens=("encoder_hidden_states_mask",),
    patches=INSIDE,
)
SD3 = Kind(
    ("context", "x"),
    ("context", "x"),
    text="context",
    instead={"transformer_options": {}, "use_checkpoint": False},
)

ARCHITECTURES: dict[type, Architecture] = {
    ernie.ErnieImageModel: Architecture(
        {"layers": Kind(("x",), ("x", "rotary_pos_emb", "temb"), instead={})},
        (ernie, "optimized_attention"),
    ),
    lumina.NextDiT: Architecture(
        {"context_refiner": LUMINA, "noise_refiner": replace(LUMINA, text=""), "layers": LUMINA},
        (lumina, "optimized_attention_masked"),
    ),
    mmdit.OpenAISignatureMMDITWrapper: Architecture({"joint_blocks": SD3}, (mmdit, "optimized_attention")),
    flux.Flux: Architecture(
        {"double_blocks": DOUBLE, "single_blocks": SINGLE}, (flux_attention, "optimized_attention")
    ),
    qwen_image.QwenImageTransformer2DModel: Architecture(
        {"transformer_blocks": QWEN_IMAGE}, (qwen_image, "optimized_attention_masked")
    ),
}


def padded(
    kind: Kind, given: dict[str, Any], ropes: MutableMapping[torch.Tensor, torch.Tensor]
) -> tuple[dict[str, Any], int]:
    """
    A block's arguments with text of a size that others share, and by how many tokens at its front it is longer.

    :param ropes: matrices that were padded for other blocks.
    """
    short = -sum(given[name].shape[1] for name in kind.streams) % BUCKET if _can_pad(kind, given) else 0
    made = {name: given[name].contiguous() for name in kind.streams}
    if short:
        made[kind.text] = pad(given[kind.text], (0, 0, short, 0))
        name, dimension = kind.rope
        if name:
            rope = given[name]
            if rope not in ropes:
                ropes[rope] = pad(rope, (*(0, 0) * (rope.ndim - 1 - dimension), short, 0))
            made[name] = ropes[rope]
    return given | made, short


def _can_pad(kind: Kind, given: dict[str, Any]) -> bool:
    options = given.get("transformer_options") or {}
    return (
        bool(kind.text)
        and all(given.get(name) is None for name in kind.of_tokens)
        and "optimized_attention_override" not in options
    )


def trimmed(kind: Kind, made: Any, short: int) -> Any:
    """What a block returns, without the padding."""
    if not isinstance(made, tuple):
        return made[:, short:]
    return tuple(
        each if each is None or name != kind.text else each[:, short:]
        for name, each in zip(kind.streams, made, strict=True)
    )


def attention_without(
    attention: Callable[..., Any], short: int, total: int, options: Any
) -> Callable[..., Any]:
    """
    An attention function that sees no padding, and is given the options that are not in a graph.

    :param total: tokens of the attention that has padding: the first ``short`` of them.
    """
    more = {} if options is None else {"transformer_options": options}

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, **how: Any) -> Any:
        tokens = 2 if how["skip_reshape"] else 1
        if short and q.shape[tokens] == total:
            k, v = (each.narrow(tokens, short, total - short) for each in (k, v))
        return attention(q, k, v, heads, **how, **more)

    return attend
