"""
How much a decoded text looks like something people write.

Most byte strings are valid in several East Asian encodings. What tells them apart: text decoded rightly is made of
its script's common characters, text decoded wrongly mostly is not. "Common" is what each national standard put
into its first level. Measured on product prompts of 4 characters and more: GB18030 text 1.0; Big5 read as GB18030
0.37 (at most 0.75), Shift-JIS 0.22 (0.75), UTF-8 0.24 (0.67). Korean read as GB18030 scores 1.0, but so it does as
EUC-KR, where Chinese reaches 0.77: rivals are compared, too.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from functools import cache

RIVALS: dict[str, tuple[str, ...]] = {
    "big5": ("big5", "cp950", "big5hkscs"),
    "shift_jis": ("shift_jis", "cp932"),
    "euc_kr": ("euc_kr", "cp949"),
    "euc_jp": ("euc_jp",),
}
"""Encoding families that GB18030 accepts, each from the narrow codec to the wide one."""

_HIGH = range(0xA1, 0xFF)


def share_common(text: str, family: str) -> float:
    """The share of the characters beyond ASCII that are common in the family's script; 0.0 where there is none."""
    common = _common(family)
    beyond = [character for character in text if character > "\x7f"]
    return sum(character in common for character in beyond) / len(beyond) if beyond else 0.0


def rank_rivals(sample: bytes) -> list[tuple[float, str]]:
    """Share and codec of each family that decodes the sample, the best first."""
    ranked = []
    for family, codec_names in RIVALS.items():
        for codec in codec_names:
            text = decode_start(sample, codec)
            if text is not None:
                ranked.append((share_common(text, family), codec))
                break
    return sorted(ranked, key=lambda entry: -entry[0])


def decode_start(sample: bytes, codec: str, errors: str = "strict") -> str | None:
    """The sample's text, without a character that its end may have cut; None where it is not valid."""
    try:
        return codecs.getincrementaldecoder(codec)(errors).decode(sample)
    except UnicodeDecodeError:
        return None


@cache
def _common(family: str) -> frozenset[str]:
    traditional = _pairs("big5", range(0xA1, 0xC7), [*range(0x40, 0x7F), *_HIGH])
    if family == "big5":
        return traditional
    if family == "gb18030":
        # GBK files may hold traditional characters, but not in Big5's symbols, which look like GB's
        hanzi = {character for character in traditional if character >= "\u4e00"}
        return _pairs("gb2312", [*range(0xA1, 0xA4), *range(0xB0, 0xD8)], _HIGH) | hanzi
    if family == "euc_kr":
        return _pairs("euc_kr", [0xA1, 0xA3, *range(0xB0, 0xC9)], _HIGH)
    if family in ("euc_jp", "shift_jis"):
        return _pairs("euc_jp", [0xA1, *range(0xA3, 0xA6), *range(0xB0, 0xD0)], _HIGH)
    families = ("gb18030", "big5", "euc_kr", "euc_jp")
    return frozenset(map(chr, range(0xA0, 0x180))).union(*map(_common, families))


def _pairs(codec: str, leads: Iterable[int], trails: Iterable[int]) -> frozenset[str]:
    trails = list(trails)
    decoded = (bytes((lead, trail)).decode(codec, "ignore") for lead in leads for trail in trails)
    return frozenset(text for text in decoded if len(text) == 1 and text > "\x7f")
