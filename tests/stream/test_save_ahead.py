"""Given images that are saved behind their maker, expect their order, every one of them, and each error."""

from __future__ import annotations

import runpy
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

PATH = Path(__file__).resolve().parents[2] / "nodes" / "save_ahead.py"
"""Imported by itself, because its package needs ComfyUI."""


@pytest.fixture(scope="module")
def module() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(PATH)))


def test_all_that_was_put_is_saved_though_the_run_is_cancelled(module: Any) -> None:
    saved: list[int] = []
    go_on = threading.Event()

    def save(number: int) -> None:
        go_on.wait()
        saved.append(number)

    with pytest.raises(KeyboardInterrupt), module.SaveAhead(save) as behind:  # noqa: PT012
        for number in range(5):
            behind.put(number)
        assert saved == []
        go_on.set()
        raise KeyboardInterrupt

    assert saved == [0, 1, 2, 3, 4]


def test_no_more_than_some_images_wait(module: Any) -> None:
    begun = threading.Semaphore(0)
    go_on = threading.Semaphore(0)

    def save(number: int) -> None:
        begun.release()
        go_on.acquire()

    def put_one_too_many(behind: Any) -> None:
        behind.put(module.WAITING)

    with module.SaveAhead(save) as behind:
        for number in range(module.WAITING):
            behind.put(number)
        begun.acquire()
        late = threading.Thread(target=put_one_too_many, args=(behind,))
        late.start()
        late.join(1)
        has_to_wait = late.is_alive()
        go_on.release(module.WAITING + 1)
        late.join()
    assert has_to_wait


@pytest.mark.parametrize("images", [1, 30])
def test_an_error_stops_the_maker(module: Any, images: int) -> None:
    def save(number: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"), module.SaveAhead(save) as behind:  # noqa: PT012
        for number in range(images):
            behind.put(number)
        assert images == 1
