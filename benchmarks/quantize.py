"""`promptmill quantize` of a file in the shape of ERNIE-Image (36 layers: 8.03 B weights, 16 GB), random weights: seconds and
peak memory, beside a plain copy of as many bytes as are read and written, before and after.

usage: python benchmarks/quantize.py [--layers 36] [--formats fp8 int8 nvfp4] [--folder DIR] [--device auto]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from promptmill.quantization.checkpoint import TensorInfo, buffer_of
from promptmill.quantization.layout import lay_out

HIDDEN, INNER, BLOCK = 4096, 12288, 1 << 24


def tensors(layers: int) -> dict[str, TensorInfo]:
    shapes: dict[str, tuple[int, ...]] = {
        "x_embedder.proj.weight": (HIDDEN, 128, 1, 1),
        "text_proj.weight": (HIDDEN, 3072),
        "time_embedding.linear_1.weight": (HIDDEN, HIDDEN),
        "time_embedding.linear_2.weight": (HIDDEN, HIDDEN),
        "adaLN_modulation.1.weight": (6 * HIDDEN, HIDDEN),
        "final_norm.linear.weight": (2 * HIDDEN, HIDDEN),
        "final_linear.weight": (128, HIDDEN),
    }
    for layer in range(layers):
        for name in ("to_q", "to_k", "to_v", "to_out.0"):
            shapes[f"layers.{layer}.self_attention.{name}.weight"] = (HIDDEN, HIDDEN)
        for name in ("gate_proj", "up_proj"):
            shapes[f"layers.{layer}.mlp.{name}.weight"] = (INNER, HIDDEN)
        shapes[f"layers.{layer}.mlp.linear_fc2.weight"] = (HIDDEN, INNER)
        shapes |= {f"layers.{layer}.{name}.weight": (HIDDEN,) for name in ("adaLN_sa_ln", "adaLN_mlp_ln")}
    return {name: TensorInfo(torch.bfloat16, shape) for name, shape in shapes.items()}


def write(path: Path, layers: int) -> None:
    """The same random numbers in each tensor, at another scale."""
    wanted = tensors(layers)
    noise = torch.randn(max(info.nbytes for info in wanted.values()) // 2).bfloat16()
    with path.open("wb") as file:
        file.write(lay_out(wanted, {}).header)
        for info in wanted.values():
            part = noise[: info.nbytes // 2] * float(torch.rand(()) + 0.5)
            file.write(buffer_of(part))
        os.fsync(file.fileno())


def forget(path: Path) -> None:
    """Out of the page cache, where the system can, so that the disk is measured."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy(source: Path, target: Path, size: int) -> float:
    """Seconds to read all of the source and to write its first ``size`` bytes to the disk."""
    forget(source)
    began = time.perf_counter()
    with source.open("rb", buffering=0) as reading, target.open("wb", buffering=0) as writing:
        while block := reading.read(BLOCK):
            writing.write(block[: max(size - writing.tell(), 0)])
        os.fsync(writing.fileno())
    return time.perf_counter() - began


def convert(source: Path, target: Path, form: str, device: str) -> tuple[float, float, float, dict[str, Any]]:
    """Seconds, seconds of processors, and peak MB of the whole process, and its report."""
    forget(source)
    command = [sys.executable, "-m", "promptmill", "quantize", str(source), str(target), "--json"]
    command += ["--format", form, "--device", device]
    began = time.perf_counter()
    process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peak, busy = 0, 0.0
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        peak = max(peak, process.memory_info().rss)
        busy = sum(process.cpu_times()[:2])
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    return seconds, busy, peak / 1e6, json.loads(process.stdout.read())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--formats", nargs="+", default=["fp8", "int8", "nvfp4"])
    parser.add_argument("--folder", type=Path, help="on the disk to measure")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source, target = Path(folder, "source.safetensors"), Path(folder, "target.safetensors")
        write(source, options.layers)
        read = source.stat().st_size
        for form in options.formats:
            seconds, busy, peak, report = convert(source, target, form, options.device)
            written = target.stat().st_size
            target.unlink()
            plain = copy(source, target, written)
            target.unlink()
            worst = max(layer["error"] or 0 for layer in report["layers"])
            print(
                f"{form:5}: {read / 1e9:.2f} -> {written / 1e9:.2f} GB in {seconds:.1f} s "
                f"({busy:.1f} s of processors), "
                f"{read / seconds / 1e9:.2f} GB/s, peak {peak:,.0f} MB RSS, worst error {worst:.2%}; "
                f"copied alone {plain:.1f} s, {read / plain / 1e9:.2f} GB/s: {seconds / plain:.2f} times as long",
                flush=True,
            )


if __name__ == "__main__":
    main()
