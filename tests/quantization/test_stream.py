"""Given calls that are made in another thread, expect those that fail to be told soon."""

from __future__ import annotations

import time

import pytest

from promptmill.quantization.stream import WriteBehind


def full():
    raise OSError("the disk is full")


def test_a_write_that_failed_is_told_before_the_limit_and_the_end():
    def write_on():
        behind.submit(1, full)
        for _ in range(1000):
            behind.submit(1, time.sleep, 0)
            time.sleep(0.001)

    with WriteBehind(1 << 30) as behind, pytest.raises(OSError, match="the disk is full"):
        write_on()
