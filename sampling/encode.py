"""Texts into conditionings, each once."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

from torch import Tensor

from ..errors import SamplingError

KEEP = 2**28
"""
Bytes of conditionings that are kept. One of 200 tokens in fp32 takes 2.5 MB for ERNIE-Image (3,072 wide), one of Flux.2
(512 tokens, 15,360 wide) 31 MB: those of 2,000 rows would take 5 to 63 GB, while what repeats is mostly the negative prompt and
the prompt of a row's variants.
"""

T5_UNKNOWN = 2
T5_ONLY = {"l", "g", "t5xxl"}
"""The tokenizers of SD3.5 and Flux.1: beside T5 there is only CLIP, which does not read Chinese either."""


class Encoder:
    """A CLIP that encodes a text again only where it was not needed lately."""

    def __init__(self, clip: Any, keep: int = KEEP) -> None:
        """
        :param clip: ComfyUI's CLIP.
        :param keep: how many bytes of conditionings to keep at most; the last one is always kept.
        :raises SamplingError: there is no CLIP.
        """
        if clip is None:
            raise SamplingError(
                "there is no text encoder", hint="this checkpoint brings none: connect a CLIP loader"
            )
        self._clip = clip
        self._keep = keep
        self._known: OrderedDict[str, list[Any]] = OrderedDict()
        self._held = 0
        self._warned = False

    def __call__(self, text: str) -> list[Any]:
        """The conditioning of a text, as ComfyUI's CLIP Text Encode gives it: [[tensor, dictionary]]."""
        if text in self._known:
            self._known.move_to_end(text)
            return self._known[text]
        tokens = self._clip.tokenize(text)
        if not self._warned and _is_lost_on_t5(tokens):
            self._warned = True
            logging.warning(
                "promptmill: the text encoder (T5) does not know all of this prompt; Chinese, for one, is lost on it: %s",
                text[:80],
            )
        encoded: list[Any] = self._clip.encode_from_tokens_scheduled(tokens)
        self._known[text] = encoded
        self._held += _size(encoded)
        while self._held > self._keep and len(self._known) > 1:
            self._held -= _size(self._known.popitem(last=False)[1])
        return encoded


def _is_lost_on_t5(tokens: dict[str, list[list[tuple[Any, ...]]]]) -> bool:
    if not tokens.keys() <= T5_ONLY:
        return False
    ids = [token[0] for section in tokens.get("t5xxl", ()) for token in section]
    return any(isinstance(number, int) and number == T5_UNKNOWN for number in ids)


def _size(conditioning: list[Any]) -> int:
    tensors = [value for tensor, extra in conditioning for value in (tensor, *extra.values())]
    return sum(value.nbytes for value in tensors if isinstance(value, Tensor))
