"""A run of 10,000 jobs against FakeComfy: does a job cost more when many are done? Time of each thousand.

The fake runs in a process of its own. Prints the first and the last thousand and their ratio.

usage: python benchmarks/many_jobs.py [--jobs 10000]
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from promptmill.driver import Observer, Request, RunEvent, WorkerSettings, run

GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}


class Stopwatch(Observer):
    def __init__(self) -> None:
        self.ends: list[float] = []
        self.cpu: list[float] = []

    def event(self, event: RunEvent) -> None:
        if event.kind == "done":
            self.ends.append(time.perf_counter())
            self.cpu.append(time.process_time())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=10_000)
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "noop.json").write_text(json.dumps(GRAPH), encoding="utf-8")
        with (folder / "jobs.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "EmptyImage.color"])
            rows.writerows((number, number) for number in range(jobs))
        command = [sys.executable, "-m", "promptmill.driver.testing", "--output-dir", str(folder / "server")]
        fake = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            url = fake.stdout.readline().strip()
            watch = Stopwatch()
            request = Request(folder / "jobs.csv", folder / "noop.json", (url,), allow_blank=True)
            began = time.perf_counter()
            result = run(request, out=folder / "out", observer=watch, settings=WorkerSettings(in_flight=4))
            whole = time.perf_counter() - began
        finally:
            fake.kill()
            fake.wait()
    assert result.exit_code == 0, result
    part = jobs // 10
    for name, marks in (("wall", watch.ends), ("driver's CPU", watch.cpu)):
        first, last = marks[part - 1] - marks[0], marks[-1] - marks[-part]
        print(
            f"{name:13} first {part}: {1000 * first / part:6.2f} ms/job, last {part}: {1000 * last / part:6.2f} ms/job, "
            f"last/first {last / first:.2f}"
        )
    report = whole - (watch.ends[-1] - began)
    print(
        f"{jobs} jobs in {whole:.1f} s, of which {report:.1f} s after the last job (manifests, contact sheet)"
    )


if __name__ == "__main__":
    main()
