"""What the driver costs per job on a no-op workflow (EmptyImage -> SaveImage, 64x64) on a real ComfyUI.

Interleaved, per round: a bare requests client that polls and keeps nothing, the same client listening to the
websocket as every live view must, promptmill with ledger, download, check and rename, all at the same depth; and
`comfy run --wait` on a few jobs. Prints milliseconds per job and ratios.

usage: python benchmarks/overhead.py [--jobs 300] [--rounds 5] [--depth 4] [--server URL]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import requests
import websocket

from promptmill.driver import Request, WorkerSettings, run

GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "bare"}},
}


@contextmanager
def comfyui(url: str | None, folder: Path):
    if url:
        yield url
        return
    home = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
    python = os.environ.get("COMFYUI_PYTHON") or home / ".venv" / "bin" / "python"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "custom_nodes").mkdir(parents=True)
    command = [python, "main.py", "--cpu", "--port", str(port), "--base-directory", folder]
    process = subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            with suppress(requests.ConnectionError):
                requests.get(url + "/prompt", timeout=5)
                break
            time.sleep(0.2)
        yield url
    finally:
        process.kill()
        process.wait()


def fresh(graph: dict) -> dict:
    graph["1"]["inputs"]["color"] = random.randrange(1 << 24)
    graph["2"]["inputs"]["filename_prefix"] = f"bare/{uuid.uuid4()}"
    return graph


def bare(url: str, jobs: int, depth: int, folder: Path, *, listen: bool = False) -> float:
    graph = json.loads(json.dumps(GRAPH))
    body: dict = {"prompt": graph}
    if listen:
        body["client_id"] = uuid.uuid4().hex
        stream = websocket.create_connection(f"ws{url[4:]}/ws?clientId={body['client_id']}")
        threading.Thread(target=_drain, args=(stream,), daemon=True).start()
    session = requests.Session()
    began = time.perf_counter()
    flying: list[str] = []
    sent = done = 0
    while done < jobs:
        while len(flying) < depth and sent < jobs:
            fresh(graph)
            flying.append(session.post(url + "/prompt", json=body).json()["prompt_id"])
            sent += 1
        if session.get(f"{url}/history/{flying[0]}").json():
            flying.pop(0)
            done += 1
    seconds = time.perf_counter() - began
    if listen:
        stream.close()
    return 1000 * seconds / jobs


def _drain(stream: websocket.WebSocket) -> None:
    with suppress(OSError, websocket.WebSocketException):
        while stream.recv():
            pass


def promptmill(url: str, jobs: int, depth: int, folder: Path) -> float:
    table, workflow, out = folder / "jobs.csv", folder / "noop.json", folder / "out"
    workflow.write_text(json.dumps(GRAPH), encoding="utf-8")
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "EmptyImage.color"])
        rows.writerows((number, random.randrange(1 << 24)) for number in range(jobs))
    request = Request(table, workflow, (url,), allow_blank=True)
    began = time.perf_counter()
    result = run(request, out=out, settings=WorkerSettings(in_flight=depth))
    seconds = time.perf_counter() - began
    assert result.exit_code == 0, result
    shutil.rmtree(out)
    return 1000 * seconds / jobs


def comfy_cli(url: str, folder: Path, jobs: int = 3) -> float:
    workflow = folder / "cli.json"
    host, port = url.removeprefix("http://").split(":")
    began = time.perf_counter()
    for _ in range(jobs):
        workflow.write_text(json.dumps(fresh(json.loads(json.dumps(GRAPH)))), encoding="utf-8")
        command = [sys.executable, "-m", "comfy_cli", "--skip-prompt", "--no-enable-telemetry", "run"]
        command += ["--workflow", str(workflow), "--wait", "--host", host, "--port", port]
        subprocess.run(command, check=True, capture_output=True)
    return 1000 * (time.perf_counter() - began) / jobs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--server")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="promptmill-bench-"))
    times: dict[str, list[float]] = {}
    try:
        with comfyui(options.server, folder / "comfyui") as url:
            bare(url, 20, options.depth, folder)
            for _ in range(options.rounds):
                for name, measure in (
                    ("bare client", bare),
                    ("bare client + websocket", lambda *it: bare(*it, listen=True)),
                    ("promptmill", promptmill),
                ):
                    times.setdefault(name, []).append(measure(url, options.jobs, options.depth, folder))
            times["comfy run --wait"] = [comfy_cli(url, folder)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    base = times["bare client"]
    print(f"{options.jobs} jobs, {options.depth} in flight, {options.rounds} interleaved rounds; ms per job")
    for name, values in times.items():
        ratios = [value / against for value, against in zip(values, base, strict=False)]
        print(
            f"{name:25} median {statistics.median(values):8.2f}  min {min(values):8.2f}  "
            f"ratio to bare {statistics.median(ratios):6.2f}"
        )


if __name__ == "__main__":
    main()
