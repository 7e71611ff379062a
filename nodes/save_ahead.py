"""Saving on a thread of its own, while the next images are made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

WAITING = 8
"""How many images may wait to be saved: 8 of 1024 × 1024 take 100 MB."""


class SaveAhead:
    """
    Calls ``save`` in the order of ``put``, behind the caller. What it raises, a later ``put`` or the end of ``with`` raises.

    However ``with`` ends, all that was put has been tried then.
    """

    def __init__(self, save: Callable[..., None]) -> None:
        self._save = save
        self._thread = ThreadPoolExecutor(1, "promptmill-save")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> SaveAhead:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._thread.shutdown()
        while self._waiting and kind is None:
            self._waiting.popleft().result()

    def put(self, *image: Any) -> None:
        """Hand over what ``save`` takes; waits where too many are waiting."""
        while self._waiting and (self._waiting[0].done() or len(self._waiting) >= WAITING):
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._save, *image))
