"""Which rows: ``1-20,35``."""

from __future__ import annotations

import re
from bisect import bisect
from dataclasses import dataclass

from ..errors import TableError


@dataclass(frozen=True, slots=True)
class Selection:
    """A set of row numbers, 1-based; ``7 in selection``."""

    ranges: tuple[range, ...]
    """In order, and apart from each other."""

    @classmethod
    def parse(cls, text: str) -> Selection:
        """
        Numbers and ranges, both ends included, separated by commas.

        :raises TableError: anything else.
        """
        ranges = []
        for part in text.split(","):
            found = re.fullmatch(r"\s*([0-9]{1,18})(?:\s*-\s*([0-9]{1,18}))?\s*", part)
            first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
            if not 1 <= first <= last:
                raise TableError(
                    "not row numbers; rows count from 1, and a range goes from the smaller to the larger",
                    where="rows",
                    value=part if part.strip() else text,
                    hint="1-20,35",
                )
            ranges.append(range(first, last + 1))
        apart: list[range] = []
        for following in sorted(ranges, key=lambda each: each.start):
            if apart and following.start <= apart[-1].stop:
                before = apart.pop()
                following = range(before.start, max(before.stop, following.stop))
            apart.append(following)
        return cls(tuple(apart))

    def __contains__(self, number: int) -> bool:
        place = bisect(self.ranges, number, key=lambda part: part.start)
        return place > 0 and number in self.ranges[place - 1]
