"""A ComfyUI with the node pack, asked as any client does."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

Graph = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Ended:
    """How a prompt ended."""

    status: str
    outputs: dict[str, Any]
    ran: set[str]
    """Ids of the nodes that were not taken from the cache."""
    error: str

    def files(self, node_id: str) -> list[str]:
        return [image["filename"] for image in self.outputs[node_id]["images"]]


class Canvas:
    """Runs graphs on a server whose output and input folders are ours."""

    def __init__(self, url: str, base: Path) -> None:
        self.url = url
        self.output = base / "output"
        self.input = base / "input"

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def run(self, graph: Graph, workflow: Any = None) -> Ended:
        extra = {"extra_pnginfo": {"workflow": workflow}} if workflow else {}
        status, reply = self.post("/prompt", {"prompt": graph, "extra_data": extra})
        assert status == 200, reply
        deadline = time.monotonic() + 120
        while not (history := self.get(f"/history/{reply['prompt_id']}")):
            assert time.monotonic() < deadline, "the prompt did not end"
            time.sleep(0.05)
        (entry,) = history.values()
        messages = dict(entry["status"]["messages"])
        return Ended(
            entry["status"]["status_str"],
            entry["outputs"],
            set(graph) - set(messages["execution_cached"]["nodes"]),
            messages.get("execution_error", {}).get("exception_message", ""),
        )


@pytest.fixture(scope="session")
def canvas(pack_server: Any) -> Canvas:
    return Canvas(pack_server.url, pack_server.base)


@pytest.fixture(scope="session")
def canvas_of() -> Callable[[Any], Canvas]:
    """The canvas of a server that a test started."""
    return lambda server: Canvas(server.url, server.base)


@pytest.fixture
def folder() -> str:
    """An output folder of the test's own."""
    return f"run-{uuid.uuid4().hex[:8]}"


TEXT = "id,prompt\na,a red mug on a white background\nb,a blue vase on a green background\nc,a yellow ball\n"


@pytest.fixture
def table(folder: str) -> Any:
    """A Prompt Table node."""

    def make(text: str = TEXT, **inputs: Any) -> dict[str, Any]:
        values = {
            "file": "(pasted text)",
            "text": text,
            "prompt": "{prompt}",
            "negative": "",
            "file_name": "",
            "folder": folder,
            "variants": 1,
            "base_seed": 0,
            "rows": "",
            "filter": "",
            "encoding": "auto",
        }
        return {"class_type": "PromptmillPromptTable", "inputs": {**values, **inputs}}

    return make


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


@pytest.fixture
def row_graph(table: Any) -> Any:
    """One row through the stock graph: table 1, row 2, checkpoint 3, sampler 7, decoder 8, Save Rows 9."""

    def make(row: int = 1, *, save: dict[str, Any] | None = None, variant: int = 1, **inputs: Any) -> Graph:
        return {
            "1": table(**inputs),
            "2": node(
                "PromptmillTableRow",
                table=["1", 0],
                row=row,
                variant=variant,
                width=64,
                height=64,
                steps=2,
                cfg=2.5,
            ),
            "3": node("CheckpointLoaderSimple", ckpt_name="promptmill-demo.safetensors"),
            "4": node("CLIPTextEncode", clip=["3", 1], text=["2", 1]),
            "5": node("CLIPTextEncode", clip=["3", 1], text=["2", 2]),
            "6": node("EmptySD3LatentImage", width=["2", 4], height=["2", 5], batch_size=1),
            "7": node(
                "KSampler",
                model=["3", 0],
                positive=["4", 0],
                negative=["5", 0],
                latent_image=["6", 0],
                seed=["2", 3],
                steps=["2", 6],
                cfg=["2", 7],
                sampler_name="euler",
                scheduler="simple",
                denoise=1.0,
            ),
            "8": node("VAEDecode", samples=["7", 0], vae=["3", 2]),
            "9": node(
                "PromptmillSaveRows", images=["8", 0], rows=["2", 0], **{"if_exists": "skip", **(save or {})}
            ),
        }

    return make


@pytest.fixture
def batch_graph(table: Any) -> Any:
    """Rows as one exact batch: Encode Rows 2, Save Rows 9."""

    def make(start: int = 1, rows_per_batch: int = 4, *, latents: Any = None, **inputs: Any) -> Graph:
        count = ["2", 2] if latents is None else latents
        return {
            "1": table(**inputs),
            "2": node(
                "PromptmillEncodeRows",
                clip=["3", 1],
                table=["1", 0],
                start=start,
                rows_per_batch=rows_per_batch,
                width=64,
                height=64,
                steps=2,
                cfg=2.5,
            ),
            "3": node("CheckpointLoaderSimple", ckpt_name="promptmill-demo.safetensors"),
            "4": node("PromptmillRowNoise", rows=["2", 0]),
            "5": node("PromptmillRowGuider", model=["3", 0], encoded=["2", 1], cfg=["2", 6]),
            "6": node("EmptySD3LatentImage", width=["2", 3], height=["2", 4], batch_size=count),
            "7": node(
                "SamplerCustomAdvanced",
                noise=["4", 0],
                guider=["5", 0],
                sampler=["10", 0],
                sigmas=["11", 0],
                latent_image=["6", 0],
            ),
            "8": node("VAEDecode", samples=["7", 0], vae=["3", 2]),
            "9": node("PromptmillSaveRows", images=["8", 0], rows=["2", 0], if_exists="skip"),
            "10": node("KSamplerSelect", sampler_name="euler"),
            "11": node("BasicScheduler", model=["3", 0], scheduler="simple", steps=["2", 5], denoise=1.0),
        }

    return make
