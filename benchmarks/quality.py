"""What each format does to images of the demo checkpoint, in a real ComfyUI on the CPU.

Prompts of pairs of object and colour that the checkpoint was not trained on, each in every format from the same seed. A
classifier says which object, colour and background it sees; PSNR compares with the images of the checkpoint as it is. ComfyUI is
told to compute in FP8 (--supports-fp8-compute), so activations are rounded as on a card; NVFP4's are not. Those "calibrated" are made by the
node Calibrate Model, on 16 prompts of other pairs. GGUF's weights are rounded by the package gguf, converted back to FP16 and computed
with as they are, as ComfyUI-GGUF does.

usage: python benchmarks/quality.py [--prompts 200]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import requests
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

import promptmill
from promptmill.driver import Request, run
from promptmill.driver.engine.demo import NAME
from promptmill.driver.engine.demo.export import export
from promptmill.quantization.checkpoint import Checkpoint
from promptmill.quantization.convert import Recipe, convert
from promptmill.quantization.formats import FORMATS
from promptmill.quantization.selection import WEIGHT, select
from promptmill.tools.demo_model.networks import Judge
from promptmill.tools.demo_model.scenes import BACKGROUNDS, COLOURS, OBJECTS, Scene, caption, random_scene

PACKAGE = Path(promptmill.__file__).parent
HOME = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
PYTHON = os.environ.get("COMFYUI_PYTHON") or HOME / ".venv" / "bin" / "python"
QUESTIONS = {"object": OBJECTS, "colour": COLOURS, "background": BACKGROUNDS}
SAMPLING = {"steps": 8, "cfg": 2.5, "width": 128, "height": 128}
SOURCE = "as it is (FP16)"
GGUF = ("Q8_0", "Q4_0")
"""8.5 and 4.5 bits a weight; what the package can write of GGUF's formats, the best and the smallest."""


def in_gguf(checkpoint: Path, form: str) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors; the layers that INT8 would quantize, as they come back from GGUF."""
    tensors = load_file(checkpoint)
    kind = gguf.GGMLQuantizationType[form]
    _, layers = select(Checkpoint(checkpoint), checkpoint.name, FORMATS["int8"], ())
    for layer in layers:
        if not layer.why_kept:
            weight = tensors[layer.name + WEIGHT]
            rounded = gguf.quants.dequantize(gguf.quants.quantize(weight.float().numpy(), kind), kind)
            tensors[layer.name + WEIGHT] = torch.from_numpy(rounded).to(weight.dtype)
    return tensors


@contextmanager
def server(base: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [PYTHON, "main.py", "--cpu", "--supports-fp8-compute", "--port", str(port), "--base-directory", base],
        cwd=HOME,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            with suppress(requests.ConnectionError):
                requests.get(url + "/prompt", timeout=5)
                break
            assert process.poll() is None
            time.sleep(0.2)
        yield url
    finally:
        process.kill()
        process.wait()


def calibrated(url: str, scenes: list[Scene], form: str, rounding: str) -> str:
    """The report of Calibrate Model, which writes models/diffusion_models/<form> <rounding>.safetensors."""
    table = {"file": "(pasted text)", "text": "\n".join(["prompt", *(f'"{caption(one)}"' for one in scenes)])}
    table |= {"prompt": "{prompt}", "negative": "", "file_name": "", "folder": "", "variants": 1}
    table |= {"base_seed": 0, "rows": "", "filter": "", "encoding": "auto"}
    inputs = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "table": ["2", 0], "rows": len(scenes)}
    inputs |= {"format": form, "rounding": rounding, "sampler": "euler", "scheduler": "simple", **SAMPLING}
    inputs |= {"file_name": f"{form} {rounding}", "overwrite": False}
    graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": NAME}},
        "2": {"class_type": "PromptmillPromptTable", "inputs": table},
        "3": {"class_type": "PromptmillCalibrateModel", "inputs": inputs},
    }
    reply = requests.post(url + "/prompt", json={"prompt": graph}, timeout=30)
    assert reply.ok, reply.text
    while not (found := requests.get(f"{url}/history/{reply.json()['prompt_id']}", timeout=30).json()):
        time.sleep(0.2)
    (entry,) = found.values()
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
    report: str = entry["outputs"]["3"]["text"][0]
    return report


def images(url: str, table: Path, workflow: Path, out: Path, file: str, dtype: str) -> NDArray[np.uint8]:
    bindings = {"UNETLoader.unet_name": file, "UNETLoader.weight_dtype": dtype}
    result = run(Request(table, workflow, (url,), bindings=bindings), out=out)
    assert result.exit_code == 0, out
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted(out.glob("*.png"))])


def judged(pixels: NDArray[np.uint8], scenes: list[Scene]) -> dict[str, float]:
    """Shares of right answers, in %."""
    judge = Judge({name: len(choices) for name, choices in QUESTIONS.items()})
    judge.load_state_dict(load_file(PACKAGE / "tests" / "engine" / "judge.safetensors"))
    with torch.inference_mode():
        logits = judge.eval()(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    right = {
        name: [
            choices[said] == getattr(scene, name)
            for said, scene in zip(logits[name].argmax(1), scenes, strict=True)
        ]
        for name, choices in QUESTIONS.items()
    }
    right["all"] = [all(row) for row in zip(*right.values(), strict=True)]
    return {name: 100 * float(np.mean(rows)) for name, rows in right.items()}


def psnr(found: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Of each image, in dB."""
    error = np.square(found.astype(float) - wanted).mean(axis=(1, 2, 3))
    return 10 * np.log10(255**2 / np.maximum(error, 1e-5))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=200)
    count = parser.parse_args().prompts
    rng = random.Random(7)
    scenes = [random_scene(rng, held_out=True) for _ in range(count)]
    others = [random_scene(rng) for _ in range(16)]
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-", ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        for name in ("custom_nodes", "input", "output", "models/diffusion_models"):
            (base / name).mkdir(parents=True)
        (base / "custom_nodes" / "promptmill").symlink_to(PACKAGE, target_is_directory=True)
        checkpoint = export(base / "models" / "checkpoints")
        models = base / "models" / "diffusion_models"
        shutil.copy(checkpoint, models)
        variants = {SOURCE: (NAME, "default")}
        for form in FORMATS:
            convert(Checkpoint(checkpoint), models / f"{form}.safetensors", Recipe(FORMATS[form]))
            variants[f"{form}, to the nearest"] = (f"{form}.safetensors", "default")
        for form in GGUF:
            save_file(in_gguf(checkpoint, form), models / f"{form}.safetensors")
            variants[f"GGUF {form}, weights only"] = (f"{form}.safetensors", "default")
        table, workflow = base / "unseen.csv", base / "workflow.json"
        with table.open("w", newline="", encoding="utf-8") as file:
            rows = [[f"R{number:04}", caption(scene), number] for number, scene in enumerate(scenes)]
            csv.writer(file).writerows([["id", "prompt", "seed"], *rows])
        graph: dict[str, Any] = json.loads((PACKAGE / "workflows" / "api" / "demo.json").read_text("utf-8"))
        graph["8"] = {"class_type": "UNETLoader", "inputs": {"unet_name": NAME, "weight_dtype": "default"}}
        graph["5"]["inputs"] |= {"model": ["8", 0], "steps": SAMPLING["steps"], "cfg": SAMPLING["cfg"]}
        workflow.write_text(json.dumps(graph), encoding="utf-8")
        with server(base) as url:
            for form, rounding in (("fp8", "nearest"), ("fp8", "hessian"), ("int8", "hessian")):
                print(calibrated(url, others, form, rounding), flush=True)
                variants[f"{form}, calibrated, {rounding}"] = (f"{form} {rounding}.safetensors", "default")
            variants["FP8 cast, unscaled"] = (NAME, "fp8_e4m3fn")
            wanted = None
            for number, (label, (file_name, dtype)) in enumerate(variants.items()):
                found = images(url, table, workflow, base / f"out{number}", file_name, dtype)
                wanted = found if wanted is None else wanted
                shares = ", ".join(f"{name} {share:.1f}" for name, share in judged(found, scenes).items())
                likeness = psnr(found, wanted)
                print(
                    f"{label:24} {shares} %; PSNR {np.median(likeness):.1f} dB, at least {likeness.min():.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
