"""Seeds: read strictly, or derived from the row alone."""

from __future__ import annotations

import hashlib
import re

from ..errors import TableError

SEED_MAX = 2**64 - 1


def parse_seed(text: str) -> int:
    """
    A whole number from 0 to ``SEED_MAX``, in plain digits.

    :raises TableError: anything else: ``1e5``, ``1.0``, ``-1``, 2^64, digits of other scripts.
    """
    digits = text.strip(" \t")
    if re.fullmatch("[0-9]{1,20}", digits) and (seed := int(digits)) <= SEED_MAX:
        return seed
    raise TableError(
        f"a seed is a whole number from 0 to {SEED_MAX}, in plain digits",
        value=text,
        hint="write it out in digits, or leave the cell blank to have one derived",
    )


def derive_seed(base: int, row_id: str, variant: int) -> int:
    """
    The seed of a row that has none, below 2^53 so that every JSON reader keeps it exact.

    It depends on these three values and nothing else: other rows may come, go and move.
    """
    digest = hashlib.blake2b(f"{base}\0{row_id}\0{variant}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 11
