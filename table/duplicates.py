"""Finds keys that occur twice without keeping the keys."""

from __future__ import annotations

from array import array
from collections import Counter

_PARTS = 256


class Duplicates:
    """
    Remembers 8 bytes a key, whatever its length: a million keys take 8 MB.

    What it finds are suspects, by hash. Going over the keys once more and keeping those whose ``of`` is a suspect
    settles it.
    """

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(_PARTS)]

    @staticmethod
    def of(key: str) -> int:
        """64 bits of the key; the same for the same key in this process only."""
        return hash(key) & 0xFFFF_FFFF_FFFF_FFFF

    def add(self, key: str) -> None:
        """Count the key in."""
        value = self.of(key)
        self._parts[value % _PARTS].append(value)

    def suspects(self) -> set[int]:
        """Hashes added more than once."""
        return {
            value
            for part in self._parts
            if len(set(part)) != len(part)
            for value, times in Counter(part).items()
            if times > 1
        }
