"""Prompts to CLIP token ids, without CLIP's vocabulary: only the words that a checkpoint brings along."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ....errors import CheckpointError

START, END = 49406, 49407
LENGTH = 77
PIECE = re.compile(r"[^\W\d_]+|\d|(?:[^\s\w]|_)+")
"""Letters, one digit, or other signs: as CLIP splits a text."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words a checkpoint was trained on, each with its one CLIP token id."""

    ids: dict[str, int]

    def all_ids(self) -> list[int]:
        """Every token id there is an embedding for: start, end, then the words in their order."""
        return [START, END, *self.ids.values()]

    def tokens(self, text: str) -> list[int]:
        """
        Return the prompt as 77 token ids: start, words, end, and the end again as padding.

        :raises CheckpointError: words that the checkpoint does not know, weights, or too many words.
        """
        pieces = PIECE.findall(text.lower())
        if any(sign in text for sign in "()"):
            raise CheckpointError(
                "the engine knows no weights such as (word:1.2)",
                where="prompt",
                value=text,
                hint="leave the parentheses out, or use ComfyUI",
            )
        unknown = list(dict.fromkeys(piece for piece in pieces if piece not in self.ids))
        if unknown:
            raise CheckpointError(
                "the checkpoint was not trained on every word of the prompt",
                where="prompt",
                value=", ".join(unknown),
                hint=f"it knows: {' '.join(word for word in sorted(self.ids) if word.isalpha())}",
            )
        if len(pieces) > LENGTH - 2:
            raise CheckpointError(
                "the prompt is too long",
                where="prompt",
                value=f"{len(pieces)} words and signs",
                hint=f"at most {LENGTH - 2}",
            )
        words = [START, *(self.ids[piece] for piece in pieces), END]
        return words + [END] * (LENGTH - len(words))
