"""Runs `promptmill run ...` in this process and kills it with SIGKILL at a chosen line of the way of a job.

usage: die_at.py POINT NTH ARGUMENTS...
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from promptmill.driver.cli import main
from promptmill.driver.comfy import ComfyClient
from promptmill.driver.ledger import Ledger
from promptmill.driver.runner import collect

POINTS: dict[str, tuple[Any, str, bool]] = {
    "before the POST": (ComfyClient, "submit", False),
    "after the POST": (ComfyClient, "submit", True),
    "after the fetch": (ComfyClient, "fetch", True),
    "before the rename": (collect, "put_in_place", False),
    "after the rename": (collect, "put_in_place", True),
    "before the commit": (Ledger, "complete", False),
    "after the commit": (Ledger, "complete", True),
}


def die_at(point: str, nth: int) -> None:
    owner, name, after = POINTS[point]
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def deadly(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        fatal = calls == nth
        if fatal and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **options)
        if fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


if __name__ == "__main__":
    die_at(sys.argv[1], int(sys.argv[2]))
    sys.argv = ["promptmill", *sys.argv[3:]]
    main()
