"""Reading before, and writing after, in threads of their own, with a bound on the bytes that wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol, TypeVar

import torch


class Sized(Protocol):
    """Something to be read."""

    @property
    def size(self) -> int:
        """In bytes."""


Job = TypeVar("Job", bound=Sized)


def read_ahead(
    jobs: Iterable[Job], read: Callable[[Job], torch.Tensor], limit: int
) -> Iterator[tuple[Job, torch.Tensor]]:
    """Each job with what was read for it; at least the next one, and up to ``limit`` bytes, are read meanwhile."""
    pool = ThreadPoolExecutor(1)
    waiting: deque[tuple[Job, Future[torch.Tensor]]] = deque()
    size = 0
    try:
        for job in jobs:
            waiting.append((job, pool.submit(read, job)))
            size += job.size
            while size > limit and len(waiting) > 1:
                size -= waiting[0][0].size
                yield waiting[0][0], waiting.popleft()[1].result()
        while waiting:
            yield waiting[0][0], waiting.popleft()[1].result()
    finally:
        pool.shutdown(cancel_futures=True)


class WriteBehind:
    """Calls in one thread, in order; a call that fails raises at a later one, or at the end."""

    def __init__(self, limit: int) -> None:
        """:param limit: bytes that may wait."""
        self._pool = ThreadPoolExecutor(1)
        self._limit = limit
        self._waiting: deque[tuple[int, Future[None]]] = deque()

    def submit(self, size: int, write: Callable[..., None], *arguments: Any) -> None:
        """Call ``write`` soon; wait while more than the limit is waiting."""
        self._waiting.append((size, self._pool.submit(write, *arguments)))
        while self._waiting and (
            self._waiting[0][1].done() or sum(size for size, _ in self._waiting) > self._limit
        ):
            self._waiting.popleft()[1].result()

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._waiting and kind is None:
                self._waiting.popleft()[1].result()
        finally:
            self._pool.shutdown(cancel_futures=True)
