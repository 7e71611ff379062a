"""Sample Table on a real ComfyUI with the demo checkpoint, on the CPU: memory over many rows, and speed by rows per batch.

- The most memory of the server while Sample Table makes 500 rows of 512 × 512: until 50 are saved, and after that; beside it
  ComfyUI's list execution of the same table, shortened (Table Column, CLIPTextEncode, KSampler, VAEDecode, Save Rows), each in
  a server of its own. 1 step, cfg 1; the demo checkpoint with a larger table of positions, and latents enlarged in place of a
  VAE: the images mean nothing.
- Time of an image at 128 × 128, 8 steps, cfg 4: one queued prompt of ComfyUI's own nodes for each row, and Sample Table with
  1, 2, 4 and 8 rows per batch, in turn, with fresh seeds; ratios round by round, also of CPU time, which other processes
  disturb less.

usage: python benchmarks/sample_table.py [--rows 500] [--list-rows 120] [--rounds 5] [--table 24]
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import requests
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import promptmill

PACKAGE = Path(promptmill.__file__).parent
HOME = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
PYTHON = os.environ.get("COMFYUI_PYTHON") or HOME / ".venv" / "bin" / "python"
FIRST = 50
"""Rows after which memory should not grow any more."""

Graph = dict[str, Any]
seeds = itertools.count(1)


class Server:
    def __init__(self, base: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.base, self.url = base, f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [PYTHON, "main.py", "--cpu", "--port", str(port), "--base-directory", base],
            cwd=HOME,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"},
        )
        while True:
            with suppress(requests.ConnectionError):
                requests.get(self.url + "/prompt", timeout=5)
                break
            assert self.process.poll() is None
            time.sleep(0.1)

    def queue(self, graph: Graph) -> str:
        prompt_id = str(uuid.uuid4())
        reply = requests.post(
            self.url + "/prompt", json={"prompt": graph, "prompt_id": prompt_id}, timeout=30
        )
        assert reply.ok, reply.text
        return prompt_id

    def is_done(self, prompt_id: str) -> bool:
        found = requests.get(f"{self.url}/history/{prompt_id}", timeout=30).json()
        assert not found or found[prompt_id]["status"]["status_str"] == "success", found
        return bool(found)

    @property
    def cpu(self) -> float:
        """Seconds of processors used so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    @property
    def memory(self) -> float:
        """Resident, in MB."""
        return psutil.Process(self.process.pid).memory_info().rss / 1e6


@contextmanager
def server(base: Path) -> Iterator[Server]:
    started = Server(base)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def write_table(base: Path, rows: int) -> str:
    """Rows of the examples' prompts again and again, in a new file; its folder is new as well."""
    with (PACKAGE / "samples" / "products.csv").open(encoding="utf-8", newline="") as file:
        prompts = [row["prompt"] for row in csv.DictReader(file)]
    name = f"{uuid.uuid4().hex}.csv"
    with (base / "input" / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "prompt"])
        writer.writerows((number, prompts[number % len(prompts)]) for number in range(rows))
    return name


QUICK_VAE = """
import torch

class Decoder:
    def decode(self, latents):
        return torch.nn.functional.interpolate(latents[:, :3], scale_factor=8, mode="bilinear").movedim(1, -1)

class QuickVAE:
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("VAE",), "run", "benchmarks"
    def run(self):
        return (Decoder(),)

NODE_CLASS_MAPPINGS = {"QuickVAE": QuickVAE}
"""
DEMO, LARGE = "promptmill-demo.safetensors", "large.safetensors"
POSITIONS = "model.diffusion_model.pos_embed"


def enlarge(models: Path) -> None:
    """The demo checkpoint for images of up to 512 × 512 pixels."""
    with safe_open(models / DEMO, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(models / DEMO)
    tensors[POSITIONS] = torch.zeros(1, (512 // 16) ** 2, tensors[POSITIONS].shape[-1]).to(tensors[POSITIONS])
    save_file(tensors, models / LARGE, metadata)


def loader(size: int) -> Graph:
    return {
        "class_type": "CheckpointLoaderSimple",
        "inputs": {"ckpt_name": LARGE if size == 512 else DEMO},
    }


def prompt_table(file: str) -> Graph:
    blank = dict.fromkeys(("text", "negative", "file_name", "folder", "rows", "filter"), "")
    inputs = {"file": file, "prompt": "{prompt}", "variants": 1, "base_seed": next(seeds), "encoding": "auto"}
    return {"class_type": "PromptmillPromptTable", "inputs": blank | inputs}


def sample_table(file: str, rows: int, size: int, steps: int, cfg: float) -> Graph:
    inputs = {
        **{"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "table": ["2", 0]},
        **{
            "steps": steps,
            "cfg": cfg,
            "sampler": "euler",
            "scheduler": "simple",
            "width": size,
            "height": size,
        },
        **{"rows_per_batch": rows, "if_exists": "skip"},
    }
    return {
        "1": loader(size),
        "2": prompt_table(file),
        "3": {"class_type": "PromptmillSampleTable", "inputs": inputs},
    }


def core(prompt: Any, seed: int, size: int, steps: int, cfg: float) -> Graph:
    """ComfyUI's own nodes from a text, or a list of them, to pixels (node 8)."""
    latent = {"width": size, "height": size, "batch_size": 1}
    sampler = {
        **{"model": ["1", 0], "positive": ["4", 0], "negative": ["5", 0], "latent_image": ["6", 0]},
        **{"seed": seed, "steps": steps, "cfg": cfg, "denoise": 1.0},
        **{"sampler_name": "euler", "scheduler": "simple"},
    }
    return {
        "1": loader(size),
        "4": {"class_type": "CLIPTextEncode", "inputs": {"text": prompt, "clip": ["1", 1]}},
        "5": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
        "6": {"class_type": "EmptySD3LatentImage", "inputs": latent},
        "7": {"class_type": "KSampler", "inputs": sampler},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["7", 0], "vae": ["1", 2]}},
    }


def list_execution(file: str, size: int) -> Graph:
    return {
        **core(["3", 0], 1, size, 1, 1.0),
        "2": prompt_table(file),
        "3": {"class_type": "PromptmillTableColumn", "inputs": {"table": ["2", 0], "column": "prompt"}},
        "9": {
            "class_type": "PromptmillSaveRows",
            "inputs": {"images": ["8", 0], "rows": ["3", 1], "if_exists": "skip"},
        },
    }


def memory(base: Path, name: str, rows: int, graph: Graph, out: Path) -> None:
    with server(base) as comfy:
        before, began = comfy.memory, time.monotonic()
        first = later = 0.0
        prompt_id = comfy.queue(graph)
        while not comfy.is_done(prompt_id):
            if len(list(out.glob("*.png"))) < FIRST:
                first = max(first, comfy.memory)
            else:
                later = max(later, comfy.memory)
            time.sleep(0.1)
        print(
            f"  {name:15} {rows} rows in {time.monotonic() - began:.0f} s: at first {before:.0f}, at most {first:.0f} until "
            f"{FIRST} are saved, {later:.0f} after that; at the end {comfy.memory:.0f}",
            flush=True,
        )


def speed(base: Path, rounds: int, rows: int) -> None:
    found: dict[str, list[tuple[float, float]]] = {}
    with server(base) as comfy:

        def measure(name: str, graphs: list[Graph]) -> None:
            began, cpu = time.perf_counter(), comfy.cpu
            last = [comfy.queue(graph) for graph in graphs][-1]
            while not comfy.is_done(last):
                time.sleep(0.05)
            took = (time.perf_counter() - began) / rows, (comfy.cpu - cpu) / rows
            found.setdefault(name, []).append(took)

        for _ in range(rounds + 1):
            file = write_table(base, rows)
            with (base / "input" / file).open(encoding="utf-8", newline="") as table:
                prompts = [row["prompt"] for row in csv.DictReader(table)]
            save = {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": file}}
            measure("stock", [{**core(text, next(seeds), 128, 8, 4.0), "9": save} for text in prompts])
            for batch in (1, 2, 4, 8):
                graph = sample_table(write_table(base, rows), batch, 128, 8, 4.0)
                measure(f"{batch} rows", [graph])
    stock = found["stock"][1:]  # the first round loads the checkpoint
    for at, clock in enumerate(("time", "CPU time of the server")):
        print(clock)
        for name, times in found.items():
            ours = [both[at] for both in times[1:]]
            ratios = [both[at] / one for both, one in zip(stock, ours, strict=True)]
            print(
                f"  {name:8} {1000 * statistics.median(ours):6.0f} ms per image, {statistics.median(ratios):.2f} x as fast as "
                f"stock ({min(ratios):.2f} to {max(ratios):.2f})",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--list-rows", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--table", type=int, default=24, help="rows of the table that is timed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-", ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        for name in ("custom_nodes", "input", "output"):
            (base / name).mkdir()
        (base / "custom_nodes" / "promptmill").symlink_to(PACKAGE, target_is_directory=True)
        models = base / "models" / "checkpoints"
        export = [sys.executable, "-m", "promptmill", "demo", "--export", models]
        subprocess.run(export, check=True, stdout=subprocess.DEVNULL)
        enlarge(models)
        if options.rounds:
            print(f"images of {options.table} rows, {options.rounds} interleaved rounds")
            speed(base, options.rounds, options.table)
        print("memory of the server, MB")
        (base / "custom_nodes" / "quick_vae.py").write_text(QUICK_VAE, encoding="utf-8")
        for name, rows in (("Sample Table", options.rows), ("list execution", options.list_rows)):
            file = write_table(base, rows)
            graph = (
                sample_table(file, 4, 512, 1, 1.0) if name == "Sample Table" else list_execution(file, 512)
            )
            graph["10"] = {"class_type": "QuickVAE", "inputs": {}}
            graph["3" if name == "Sample Table" else "8"]["inputs"]["vae"] = ["10", 0]
            memory(base, name, rows, graph, base / "output" / Path(file).stem)


if __name__ == "__main__":
    main()
