"""A real ComfyUI with this pack in it and the demo checkpoint."""

from __future__ import annotations

import csv
import hashlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from numpy.typing import NDArray
from PIL import Image

from promptmill.table import Entry, read_entries

ROOT = Path(__file__).resolve().parents[2]
STEPS = 2

TEST_NODES = """
import copy
import torch

class Recorder:
    def __init__(self, clip, log):
        self.clip, self.log = clip, log
    def tokenize(self, text):
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(text + chr(10))
        return self.clip.tokenize(text)
    def __getattr__(self, name):
        return getattr(self.clip, name)

class PromptmillTestRecorder:
    INPUT_TYPES = classmethod(lambda cls: {"required": {"clip": ("CLIP",), "log": ("STRING",)}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("CLIP",), "run", "tests"
    def run(self, clip, log):
        return (Recorder(clip, log),)

class PromptmillTestSmallCard:
    INPUT_TYPES = classmethod(lambda cls: {"required": {"model": ("MODEL",), "rows": ("INT",), "log": ("STRING",)}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "run", "tests"
    def run(self, model, rows, log):
        model, sampling = model.clone(), copy.copy(model.get_model_object("model_sampling"))
        scaled = sampling.calculate_input
        def limited(sigma, noise):
            with open(log, "a") as file:
                file.write(f"{len(noise)} ")
            if len(noise) > rows:
                raise torch.OutOfMemoryError("not enough for a test")
            return scaled(sigma, noise)
        sampling.calculate_input = limited
        model.add_object_patch("model_sampling", sampling)
        return (model,)

class PromptmillTestNoModels:
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL", "CLIP", "VAE"), "run", "tests"
    def run(self):
        raise RuntimeError("the models were asked for")

NODE_CLASS_MAPPINGS = {
    node.__name__: node for node in (PromptmillTestRecorder, PromptmillTestSmallCard, PromptmillTestNoModels)
}
"""

Graph = dict[str, Any]


@dataclass
class Comfy:
    """What the tests ask of a server."""

    process: Any

    @property
    def output(self) -> Path:
        return Path(self.process.base, "output")

    def write_table(self, name: str, rows: list[dict[str, Any]]) -> None:
        with Path(self.process.base, "input", name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def queue(self, graph: Graph, client_id: str = "") -> str:
        prompt_id = str(uuid.uuid4())
        prompt = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id}
        reply = requests.post(self.process.url + "/prompt", json=prompt, timeout=30)
        assert reply.ok, reply.text
        return prompt_id

    def result(self, prompt_id: str) -> dict[str, Any]:
        """The history of a prompt, once it has ended."""
        while True:
            found = requests.get(f"{self.process.url}/history/{prompt_id}", timeout=30).json()
            if prompt_id in found:
                return found[prompt_id]  # type: ignore[no-any-return]
            time.sleep(0.1)

    def run(self, graph: Graph) -> dict[str, Any]:
        """The outputs of the saving nodes of a graph, by node id."""
        result = self.result(self.queue(graph))
        assert result["status"]["status_str"] == "success", result["status"]["messages"]
        return result["outputs"]  # type: ignore[no-any-return]

    def interrupt(self) -> None:
        requests.post(self.process.url + "/interrupt", timeout=30).raise_for_status()

    def pixels(self, shown: dict[str, str]) -> NDArray[np.int16]:
        """An image [height, width, 3] in 0..255, by what a node showed of it."""
        return np.asarray(Image.open(self.output / shown["subfolder"] / shown["filename"])).astype(np.int16)


def loader() -> Graph:
    return {
        "class_type": "CheckpointLoaderSimple",
        "inputs": {"ckpt_name": "promptmill-demo.safetensors"},
    }


@pytest.fixture(scope="session")
def base(new_pack_base: Callable[[], Path]) -> Path:
    base = new_pack_base()
    (base / "custom_nodes" / "for_tests.py").write_text(TEST_NODES, encoding="utf-8")
    return base


@pytest.fixture(scope="module")
def comfy(start_comfyui: Callable[..., Any], base: Path) -> Comfy:
    return Comfy(start_comfyui(base))


@pytest.fixture(scope="session")
def connect() -> Callable[[Any], Comfy]:
    return Comfy


@pytest.fixture
def sample_table() -> Callable[..., Graph]:
    """The graph of Sample Table (node 3) over a table in the input folder."""

    def build(file: str, *, table: Graph | None = None, **inputs: Any) -> Graph:
        of_table = {
            "file": file,
            "text": "",
            "prompt": "{prompt}",
            "negative": "",
            "file_name": "",
            "folder": "",
            "variants": 1,
            "base_seed": 0,
            "rows": "",
            "filter": "",
            "encoding": "auto",
            **(table or {}),
        }
        of_sampler = {
            "model": ["1", 0],
            "clip": ["1", 1],
            "vae": ["1", 2],
            "table": ["2", 0],
            "steps": STEPS,
            "cfg": 4.0,
            "sampler": "euler",
            "scheduler": "simple",
            "width": 128,
            "height": 128,
            "rows_per_batch": 4,
            "if_exists": "skip",
            **inputs,
        }
        return {
            "1": loader(),
            "2": {"class_type": "PromptmillPromptTable", "inputs": of_table},
            "3": {"class_type": "PromptmillSampleTable", "inputs": of_sampler},
        }

    return build


@pytest.fixture
def stock() -> Callable[..., Graph]:
    """The graph of one image, of core's nodes alone (node 7 saves)."""

    def build(
        prompt: str, negative: str = "", *, width: int = 128, height: int = 128, **sampler: Any
    ) -> Graph:
        latent = {"width": width, "height": height, "batch_size": 1}
        of_sampler = {
            "model": ["1", 0],
            "positive": ["2", 0],
            "negative": ["3", 0],
            "latent_image": ["4", 0],
            "steps": STEPS,
            "cfg": 4.0,
            "sampler_name": "euler",
            "scheduler": "simple",
            "denoise": 1.0,
            **sampler,
        }
        return {
            "1": loader(),
            "2": {"class_type": "CLIPTextEncode", "inputs": {"text": prompt, "clip": ["1", 1]}},
            "3": {"class_type": "CLIPTextEncode", "inputs": {"text": negative, "clip": ["1", 1]}},
            "4": {"class_type": "EmptySD3LatentImage", "inputs": latent},
            "5": {"class_type": "KSampler", "inputs": of_sampler},
            "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
            "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "stock"}},
        }

    return build


@pytest.fixture
def true_manifest() -> Callable[[Path], dict[str, Entry]]:
    """The last line of each file in a folder, once it is certain that it is true, and that each file has one."""

    def check(out: Path) -> dict[str, Entry]:
        entries = {entry.file: entry for entry in read_entries(out)}
        assert sorted(entries) == sorted(path.name for path in out.glob("*.png"))
        for name, entry in entries.items():
            data = (out / name).read_bytes()
            assert hashlib.sha256(data).hexdigest() == entry.sha256, name
            with Image.open(out / name) as image:
                image.load()
                assert image.size == (entry.width, entry.height)
        assert not list(out.glob(".promptmill-*"))
        return entries

    return check


@pytest.fixture
def many_rows() -> Callable[[int], list[dict[str, Any]]]:
    """Rows of few prompts, so that encoding takes no time."""
    prompts = [f"a {colour} {thing}" for colour in ("red", "blue") for thing in ("mug", "chair")]

    def build(count: int) -> list[dict[str, Any]]:
        return [{"id": f"r{number:03}", "prompt": prompts[number % 4]} for number in range(count)]

    return build
