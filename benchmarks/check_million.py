"""`check` of a csv of 1,000,000 rows with a 3-node workflow: rows per second and peak memory, and the same for a
tenth of the rows, whose memory should be nearly as large.

usage: python benchmarks/check_million.py [--rows 1000000]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from promptmill.driver.testing import FakeComfy

GRAPH = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "model_a.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "x", "clip": ["1", 1]}},
    "3": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
}


def check(folder: Path, rows: int, url: str) -> tuple[float, float]:
    table, workflow = folder / f"{rows}.csv", folder / "workflow.json"
    workflow.write_text(json.dumps(GRAPH), encoding="utf-8")
    with table.open("w", encoding="utf-8") as file:
        file.write("sku,name,style,prompt\n")
        for n in range(rows):
            file.write(
                f'SKU{n:07},item {n},studio,"a product photo of item {n}, white background, studio light"\n'
            )
    command = [sys.executable, "-m", "promptmill", "check", str(table), "-w", str(workflow), "--server", url]
    command += ["--set", "CLIPTextEncode.text={prompt}"]
    began = time.perf_counter()
    process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peak = 0
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    told = process.stdout.read()
    assert re.match(rf"{rows} jobs", told), told
    return rows / seconds, peak / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder, FakeComfy() as fake:
        for count in (rows // 10, rows):
            rate, memory = check(Path(folder), count, fake.url)
            print(f"{count:9,} rows: {rate:9,.0f} rows/s, peak {memory:6.1f} MB RSS (whole process)")


if __name__ == "__main__":
    main()
