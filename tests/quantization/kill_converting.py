"""Converts a file again and again, killed with SIGKILL when a random number of bytes is written, and prints what is there then.

usage: kill_converting.py SOURCE TARGET FORMAT SEED ...   An object for each seed: how often it was killed, and what was wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from promptmill.quantization import convert as converting
from promptmill.quantization import journal
from promptmill.quantization.checkpoint import Checkpoint
from promptmill.quantization.convert import Recipe, convert
from promptmill.quantization.formats import FORMATS

source, target = map(Path, sys.argv[1:3])
recipe = Recipe(FORMATS[sys.argv[3]])
opened = Path.open
written, deadly = 0, sys.maxsize


class Dying:
    """A file that kills the process within the byte that is one too many."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: Any) -> int:
        global written
        rest = deadly - written
        count: int = self._file.write(memoryview(data)[:rest])
        written += count
        if written >= deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def open_dying(path: Path, *arguments: Any, **options: Any) -> Any:
    file = opened(path, *arguments, **options)
    return Dying(file) if ".part" in path.name else file


def in_a_child(bytes_to_live: int) -> tuple[int, int]:
    """How the child ended, and how many bytes it wrote where it ended well."""
    global deadly
    reading, writing = os.pipe()
    if pid := os.fork():
        os.close(writing)
        with os.fdopen(reading) as told:
            count = int(told.read() or 0)
        return os.waitpid(pid, 0)[1], count
    deadly = bytes_to_live
    code = 1
    try:
        convert(Checkpoint(source), target, recipe)
        os.write(writing, str(written).encode())
        code = 0
    finally:
        os._exit(code)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


Path.open = open_dying  # type: ignore[assignment,method-assign]
journal.EVERY, converting.PIECE, converting.AHEAD, converting.BEHIND = 1 << 16, 1 << 14, 1 << 17, 1 << 16
before = digest(source)
assert in_a_child(sys.maxsize)[0] == 0
wanted = digest(target)
target.unlink()
total = in_a_child(sys.maxsize)[1]
for seed in sys.argv[4:]:
    chance = random.Random(int(seed))
    target.unlink()
    deaths, wrong = 0, []
    while in_a_child(chance.randrange(1, total + total // 4))[0]:
        deaths += 1
        if target.exists():
            wrong.append("half a file under the final name")
    if digest(target) != wanted:
        wrong.append("another file")
    if digest(source) != before:
        wrong.append("another source")
    if left := [path.name for path in target.parent.iterdir() if path not in (source, target)]:
        wrong.append(f"left behind: {left}")
    print(json.dumps({"deaths": deaths, "wrong": wrong}), flush=True)
