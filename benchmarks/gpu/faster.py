"""Sampling only: ComfyUI's own BF16, FP8 and INT8 against compiled blocks, with 4 rows and 1.

Every variant comes once a round, the first time after a run of one step in which it is compiled. A variant that fails is left out.
Runs in ComfyUI's folder with ComfyUI's Python; options that are not known here are ComfyUI's.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
import traceback
from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import comfyui

BEGAN = time.perf_counter()
VARIANTS = {
    "ours FP8 static": "fp8",
    "stock BF16": "bf16",
    "stock FP8": "fp8",
    "ours INT8": "int8",
    "ours FP8 dynamic": "fp8 without scale",
    "stock INT8": "int8",
}
"""Name to model."""
COMPILING = 45.0
"""Seconds that must be left for a variant to be compiled."""

parser = argparse.ArgumentParser()
parser.add_argument("--rows", type=int, nargs="+", default=[4, 1])
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--steps", type=int, default=8, help="timed; figures are for 8")
parser.add_argument("--seconds", type=float, default=600, help="after which it stops")
parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=VARIANTS)
parser.add_argument("--profile", nargs="*", default=[], help="variants: where one forward of theirs goes")
parser.add_argument(
    "--left",
    type=float,
    help="GB of the card, 0 for all of it, with weights that ComfyUI moves; without, all stay on it",
)
parser.add_argument("--tiny", action="store_true", help="to try this on a CPU")
options, others = parser.parse_known_args()
if options.left is None:
    others.append("--disable-dynamic-vram")
comfyui.start(*others)

import logging  # noqa: E402

import torch  # noqa: E402
from card import Card  # noqa: E402
from ernie import STEPS, sample  # noqa: E402
from quantized import models  # noqa: E402

from promptmill.sampling.accelerate import accelerate  # noqa: E402

SIZE = (128, 96) if options.tiny else ()


class Log(logging.StreamHandler[Any]):
    """Our lines, and whether one said that a variant is not what it is called."""

    fell_back = False

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "promptmill" in message:
            self.fell_back |= "not accelerated" in message or "without acceleration" in message
            super().emit(record)


def say(line: str) -> None:
    print(f"[{time.perf_counter() - BEGAN:5.0f} s] {line}", flush=True)


def left() -> float:
    return options.seconds - (time.perf_counter() - BEGAN)


@dataclass
class Variant:
    name: str
    patcher: Any
    ready: set[int] = field(default_factory=set)
    failed: bool = False

    def time(self, rows: int) -> None:
        """One run, and before the first a short one."""
        if self.failed or (rows not in self.ready and left() < COMPILING and not options.tiny):
            return
        if times[self.name, rows] and left() < 1.3 * rows * times[self.name, rows][-1]:
            return
        try:
            seconds, state = self._timed(rows)
        except Exception:
            self.failed = True
            say(f"  {self.name} FAILED\n{traceback.format_exc()[-3000:]}")
            return
        times[self.name, rows].append(seconds)
        say(
            f"  {self.name:18} {rows} rows {seconds:6.3f} s an image; PyTorch held {card.peak():5.2f} GB; {state}"
        )

    def _timed(self, rows: int) -> tuple[float, str]:
        log.fell_back = False
        if rows not in self.ready:
            began = time.perf_counter()
            first[self.name, rows] = sample(self.patcher, rows, 1, *SIZE)
            say(f"  {self.name}, {rows} rows: first step {time.perf_counter() - began:.1f} s")
            self.ready.add(rows)
        card.peak()
        began = time.perf_counter()
        sample(self.patcher, rows, options.steps, *SIZE)
        seconds = (time.perf_counter() - began) / rows * STEPS / options.steps
        if log.fell_back:
            raise RuntimeError(f"fell back ({seconds:.3f} s an image)")
        return seconds, card.state_since(began)


def summary() -> None:
    for (name, rows), found in times.items():
        if not found:
            continue
        ratios = []
        for other in ("stock BF16", "stock FP8"):
            pairs = [a / b for a, b in zip(times.get((other, rows), []), found, strict=False)]
            if pairs:
                ratios.append(f"{median(pairs):5.3f} ({min(pairs):.3f} to {max(pairs):.3f}) x {other}")
        exact = first.get(("stock BF16", rows))
        if exact is not None:
            ratios.append(f"first step {(first[name, rows] - exact).norm() / exact.norm():.4f} from it")
        print(f"= {name:18} {rows} rows {median(found):6.3f} s an image; {'; '.join(ratios)}", flush=True)


def stop() -> None:
    say("out of time")
    summary()
    os._exit(0)


def profile(variant: Variant) -> None:
    rows = max(options.rows)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as found:
        sample(variant.patcher, rows, 1, *SIZE)
    order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    say(f"one step of {variant.name}, {rows} rows")
    print(found.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=90), flush=True)


log = Log(sys.stdout)
logging.getLogger().setLevel(logging.DEBUG)
for handler in logging.getLogger().handlers:
    handler.addFilter(lambda record: record.levelno >= logging.WARNING)
logging.getLogger("comfy_kitchen").setLevel(logging.ERROR if "--cpu" in others else logging.WARNING)
logging.getLogger().addHandler(log)
timer = threading.Timer(options.seconds + 8, stop)
timer.daemon = True
timer.start()
times: dict[tuple[str, int], list[float]] = defaultdict(list)
first: dict[tuple[str, int], torch.Tensor] = {}
card = Card()
say(f"{card.name}, PyTorch {torch.__version__}; ComfyUI {others}")
with torch.inference_mode():
    made = models([VARIANTS[name] for name in options.only], options.tiny, on_card=options.left is None)
    variants = [
        Variant(
            name, accelerate(made[VARIANTS[name]], verify=True) if "ours" in name else made[VARIANTS[name]]
        )
        for name in options.only
    ]
    card.leave(options.left or 0)
    for rows in options.rows:
        for _ in range(options.rounds):
            for variant in variants:
                variant.time(rows)
            summary()
        if rows == options.rows[0]:
            for variant in variants:
                if variant.name in options.profile and not variant.failed:
                    profile(variant)
timer.cancel()
