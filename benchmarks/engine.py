"""The engine against a real ComfyUI on the demo checkpoint, and what threads cost that spin while they wait.

Every server is a process of its own, on the CPU, with 2 OpenMP threads that sleep while they wait where its line says
nothing else; the driver runs samples/products.csv through workflows/demo.json on each in turn, with fresh seeds:

- start-up, until /prompt answers and until the driver has the first image;
- images per minute, from the first image to the last, and memory after that;
- images per minute of a few rows where waiting threads spin, as OpenMP has it by itself, alone and beside processes
  that keep the cores busy.

usage: python benchmarks/engine.py [--rounds 5] [--starts 5] [--busy 2]
"""

from __future__ import annotations

import argparse
import itertools
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

import promptmill
from promptmill.driver import Observer, Request, RunEvent, run

PACKAGE = Path(promptmill.__file__).parent
TABLE, WORKFLOW = PACKAGE / "samples" / "products.csv", PACKAGE / "workflows" / "demo.json"
HOME = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
COMFYUI = [os.environ.get("COMFYUI_PYTHON") or HOME / ".venv" / "bin" / "python", "main.py", "--cpu"]
ENGINE = [sys.executable, "-m", "promptmill", "engine", "--device", "cpu"]
FEW = 4
SPIN = ", threads that spin"


@dataclass(frozen=True)
class Kind:
    command: list[Any]
    threads: int = 2
    waiting: str = "PASSIVE"


KINDS = {
    "ComfyUI": Kind(COMFYUI),
    "engine": Kind(ENGINE),
    "ComfyUI, 1 thread": Kind(COMFYUI, threads=1),
    "engine, 1 thread": Kind(ENGINE, threads=1),
    # empty is as good as unset, but the engine sets it only where it is unset
    f"ComfyUI{SPIN}": Kind(COMFYUI, waiting=""),
    f"engine{SPIN}": Kind(ENGINE, waiting=""),
}


class Server:
    def __init__(self, kind: Kind, base: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [*kind.command, "--port", str(port), "--base-directory", base],
            cwd=HOME if kind.command is COMFYUI else base,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": str(kind.threads), "OMP_WAIT_POLICY": kind.waiting},
        )
        while True:
            with suppress(requests.ConnectionError):
                requests.get(self.url + "/prompt", timeout=5)
                break
            assert self.process.poll() is None, kind
            time.sleep(0.02)
        self.answered = time.perf_counter() - self.began

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Stopwatch(Observer):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def event(self, event: RunEvent) -> None:
        if event.kind == "done":
            self.ends.append(time.perf_counter())


seeds = itertools.count(1)


def images(url: str, limit: int | None = None) -> list[float]:
    """When each image was there."""
    watch = Stopwatch()
    request = Request(TABLE, WORKFLOW, (url,), seed=next(seeds) * 1_000_003, limit=limit)
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-") as out:
        result = run(request, out=Path(out) / "out", observer=watch)
    assert result.exit_code == 0, result
    return watch.ends


def start_up(base: Path, starts: int) -> None:
    times: dict[str, list[tuple[float, float]]] = {}
    for number in range(starts + 1):
        for name in ("engine", "ComfyUI"):
            server = Server(KINDS[name], base)
            first = images(server.url, limit=1)[0] - server.began
            server.kill()
            if number:  # the first start of each fills the disk's cache
                times.setdefault(name, []).append((server.answered, first))
    print(f"start-up: {starts} interleaved starts; seconds")
    for at, until in enumerate(("until /prompt answers", "until the first image")):
        print(until)
        report({name: [pair[at] for pair in pairs] for name, pairs in times.items()})


def throughput(servers: dict[str, Server], rounds: int, limit: int | None = None) -> None:
    rates: dict[str, list[float]] = {name: [] for name in servers}
    others = []
    for _ in range(rounds):
        for name, server in servers.items():
            others.append(psutil.cpu_percent(0.5))
            ends = images(server.url, limit)
            rates[name].append(60 * (len(ends) - 1) / (ends[-1] - ends[0]))
    report(rates)
    print(
        f"  other processes used {statistics.median(others):.0f} % of the cores ({max(others):.0f} % at most)"
    )


@contextmanager
def busy(processes: int) -> Iterator[None]:
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()


def report(values: dict[str, list[float]]) -> None:
    """Medians, smallest and largest; ratios round by round: engine to ComfyUI, spinning to sleeping."""
    for name, ours in values.items():
        line = f"{statistics.median(ours):8.2f}  ({min(ours):.2f} to {max(ours):.2f})"
        against = name.removesuffix(SPIN) if name.endswith(SPIN) else name.replace("engine", "ComfyUI")
        if against != name:
            ratios = [one / other for one, other in zip(ours, values[against], strict=True)]
            ratio = f"{statistics.median(ratios):.3f}  ({min(ratios):.3f} to {max(ratios):.3f})"
            line += f"  ratio to {against} {ratio}"
        print(f"  {name:28} {line}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--busy", type=int, default=2, help="processes that keep the cores busy")
    options = parser.parse_args()
    servers: dict[str, Server] = {}
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-", ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        (base / "custom_nodes").mkdir()
        models = base / "models" / "checkpoints"
        export = [sys.executable, "-m", "promptmill", "demo", "--export", models]
        subprocess.run(export, check=True, stdout=subprocess.DEVNULL)
        try:
            start_up(base, options.starts)
            for name, kind in KINDS.items():
                servers[name] = Server(kind, base)
                images(servers[name].url, limit=2)
            print(f"images per minute: {options.rounds} interleaved rounds of the whole table")
            throughput({name: it for name, it in servers.items() if SPIN not in name}, options.rounds)
            print("memory after that, MB")
            for name in ("ComfyUI", "engine"):
                print(f"  {name:28} {psutil.Process(servers[name].process.pid).memory_info().rss / 1e6:8.0f}")
            waiting = {name: it for name, it in servers.items() if "1 thread" not in name}
            print(f"images per minute: {options.rounds} interleaved rounds of {FEW} rows")
            throughput(waiting, options.rounds, FEW)
            print(f"the same beside {options.busy} busy processes")
            with busy(options.busy):
                throughput(waiting, options.rounds, FEW)
        finally:
            for server in servers.values():
                server.kill()


if __name__ == "__main__":
    main()
