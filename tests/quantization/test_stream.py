"""Given calls that are made in another thread, expect those that fail to be told soon."""

from __future__ import annotations

import threading

import pytest

from promptmill.quantization.stream import WriteBehind


def full():
    raise OSError("the disk is full")


def test_a_write_that_failed_is_told_before_the_limit_and_the_end():
    def write_on():
        behind.submit(1, full)
        tried = threading.Event()
        behind.submit(1, tried.set)
        assert tried.wait(60)
        behind.submit(1, tried.set)

    with WriteBehind(1 << 30) as behind, pytest.raises(OSError, match="the disk is full"):
        write_on()
