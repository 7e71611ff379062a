"""The engine against a real ComfyUI on the demo checkpoint, and what waiting threads cost each.

Every server is a process of its own, on the CPU, with 2 OpenMP threads where its line says nothing else; the driver
runs examples/products.csv through workflows/demo.json on each in turn, with fresh seeds. First the start-up, until
/prompt answers and until the driver has the first image; then images per minute, from the first image to the last;
then memory; at last images per minute again, of fewer rows, beside processes that keep the cores busy.

usage: python benchmarks/engine.py [--rounds 5] [--starts 5] [--busy 2] [--busy-rounds 5]
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

import promptmill
from promptmill.driver import Observer, Request, RunEvent, run

PACKAGE = Path(promptmill.__file__).parent
TABLE, WORKFLOW = PACKAGE / "examples" / "products.csv", PACKAGE / "workflows" / "demo.json"
HOME = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
COMFYUI = [os.environ.get("COMFYUI_PYTHON") or HOME / ".venv" / "bin" / "python", "main.py", "--cpu"]
ENGINE = [sys.executable, "-m", "promptmill", "engine", "--device", "cpu"]
BUSY_ROWS = 6


@dataclass(frozen=True)
class Kind:
    command: list[Any]
    threads: int = 2
    waiting: dict[str, str] = field(default_factory=dict)


KINDS = {
    "ComfyUI": Kind(COMFYUI),
    "engine": Kind(ENGINE),
    "ComfyUI, 1 thread": Kind(COMFYUI, threads=1),
    "engine, 1 thread": Kind(ENGINE, threads=1),
    "ComfyUI, threads that sleep": Kind(COMFYUI, waiting={"OMP_WAIT_POLICY": "PASSIVE"}),
    # the engine sets OMP_WAIT_POLICY where nobody did; this is what libgomp does where nobody does
    "engine, threads that spin": Kind(ENGINE, waiting={"GOMP_SPINCOUNT": "300000"}),
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
            env={**os.environ, "OMP_NUM_THREADS": str(kind.threads), **kind.waiting},
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
    for at, until in enumerate(("/prompt answers", "first image")):
        report(until, {name: [pair[at] for pair in pairs] for name, pairs in times.items()})


def rates(servers: dict[str, Server], rounds: int, limit: int | None = None) -> dict[str, list[float]]:
    per_minute: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, server in servers.items():
            ends = images(server.url, limit)
            per_minute.setdefault(name, []).append(60 * (len(ends) - 1) / (ends[-1] - ends[0]))
    return per_minute


@contextmanager
def busy(processes: int) -> Iterator[None]:
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    yield
    for other in others:
        other.kill()


def report(title: str, values: dict[str, list[float]]) -> None:
    print(title)
    for name, ours in values.items():
        ratios = [value / against for value, against in zip(ours, values["ComfyUI"], strict=True)]
        print(
            f"  {name:28} {statistics.median(ours):8.2f}  ({min(ours):.2f} to {max(ours):.2f})"
            f"  ratio to ComfyUI {statistics.median(ratios):6.3f}  ({min(ratios):.3f} to {max(ratios):.3f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--busy", type=int, default=2, help="processes that keep the cores busy")
    parser.add_argument("--busy-rounds", type=int, default=5)
    options = parser.parse_args()
    servers: dict[str, Server] = {}
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-", ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        (base / "custom_nodes").mkdir()
        models = base / "models" / "checkpoints"
        subprocess.run([sys.executable, "-m", "promptmill", "demo", "--export", models], check=True)
        try:
            start_up(base, options.starts)
            servers = {name: Server(kind, base) for name, kind in KINDS.items()}
            rates(servers, 1)
            report(f"images per minute: {options.rounds} interleaved rounds", rates(servers, options.rounds))
            print("memory after that, MB")
            for name, server in servers.items():
                print(f"  {name:28} {psutil.Process(server.process.pid).memory_info().rss / 1e6:8.0f}")
            with busy(options.busy):
                values = rates(servers, options.busy_rounds, BUSY_ROWS)
            report(f"images per minute beside {options.busy} busy processes, {BUSY_ROWS} rows a round", values)
        finally:
            for server in servers.values():
                server.kill()


if __name__ == "__main__":
    main()
