"""An engine with a tiny checkpoint: real tensors, no training."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
import websocket
from torch import Tensor

from promptmill.driver.engine import Engine
from promptmill.driver.engine.models.checkpoint import Checkpoint, OnStep, Settings

CHANNELS = 16


@dataclass
class TinyWords:
    value: float

    def zeroed(self) -> TinyWords:
        return TinyWords(0.0)


@dataclass
class TinyEncoder:
    texts: list[str] = field(default_factory=list)

    def encode(self, text: str) -> TinyWords:
        self.texts.append(text)
        return TinyWords(sum(map(ord, text)) % 97 / 97)


class TinyAutoencoder:
    """An eighth of the side; three of the channels are the colours."""

    def encode(self, pixels: Tensor) -> Tensor:
        small = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.nn.functional.pad(small, (0, 0, 0, 0, 0, CHANNELS - 3)) * 2 - 1

    def decode(self, latent: Tensor) -> Tensor:
        colors = latent[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3)
        return colors.movedim(1, -1).add(1).div(2).clamp(0, 1)


@dataclass
class TinyModel:
    """Euler steps from noise towards the prompt's shade; notes what it sampled, and may be held up."""

    latent_channels: int = CHANNELS
    shift: float = 1.0
    sampled: list[tuple[Settings, float]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    fails_with: list[Exception] = field(default_factory=list)
    makes_nan: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    def with_shift(self, shift: float) -> TinyModel:
        return replace(self, shift=shift)

    def sample(
        self,
        latent: Tensor,
        positive: TinyWords,
        negative: TinyWords,
        settings: Settings,
        on_step: OnStep,
    ) -> Tensor:
        self.sampled.append((settings, self.shift))
        assert latent.shape[1] == CHANNELS
        if self.fails_with:
            raise self.fails_with.pop()
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(settings.seed % 2**63))
        x = latent + noise * settings.denoise
        for step in range(1, settings.steps + 1):
            self.gate.wait(10)
            x = x + (positive.value - negative.value - x) * 0.5 / self.shift
            on_step(step, settings.steps, partial(TinyAutoencoder().decode, x))
        return x * torch.nan if self.makes_nan else x


@dataclass
class Loader:
    """Loads the same tiny checkpoint under each name, and counts."""

    model: TinyModel = field(default_factory=TinyModel)
    clip: TinyEncoder = field(default_factory=TinyEncoder)
    loaded: list[str] = field(default_factory=list)

    def __call__(self, source: Path | str) -> Checkpoint:
        self.loaded.append(Path(source).name)
        return Checkpoint(self.model, self.clip, TinyAutoencoder())


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def engine(tmp_path: Path, loader: Loader) -> Iterator[Engine]:
    with Engine(tmp_path / "engine", load=loader) as engine:
        yield engine
        loader.model.gate.set()


Graph = dict[str, Any]


@pytest.fixture
def graph() -> Callable[..., Graph]:
    def build(
        text: str = "a cat",
        *,
        seed: int = 1,
        steps: int = 2,
        prefix: str = "row",
        width: int = 64,
        height: int = 64,
        batch_size: int = 1,
        ckpt_name: str = "promptmill-demo.safetensors",
        **sampler: Any,
    ) -> Graph:
        inputs = {
            "model": ["1", 0],
            "positive": ["2", 0],
            "negative": ["3", 0],
            "latent_image": ["4", 0],
            "seed": seed,
            "steps": steps,
            "cfg": 1.0,
            "sampler_name": "euler",
            "scheduler": "simple",
            "denoise": 1.0,
            **sampler,
        }
        size = {"width": width, "height": height, "batch_size": batch_size}
        return {
            "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": ckpt_name}},
            "2": {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["1", 1]}},
            "3": {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["2", 0]}},
            "4": {"class_type": "EmptyLatentImage", "inputs": size},
            "5": {"class_type": "KSampler", "inputs": inputs},
            "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
            "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": prefix}},
        }

    return build


class Client:
    """Raw HTTP and a raw websocket, as a ComfyUI script would use them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.id = uuid.uuid4().hex
        self.socket = websocket.create_connection(f"ws{url[4:]}/ws?clientId={self.id}", timeout=20)
        self.hello = json.loads(self.socket.recv())

    def offer(self, **flags: Any) -> dict[str, Any]:
        self.socket.send(json.dumps({"type": "feature_flags", "data": flags}))
        answer: dict[str, Any] = json.loads(self.socket.recv())
        return answer

    def submit(self, graph: Graph, **body: Any) -> str:
        reply = requests.post(f"{self.url}/prompt", json={"prompt": graph, "client_id": self.id, **body})
        assert reply.status_code == 200, reply.text
        prompt_id: str = reply.json()["prompt_id"]
        return prompt_id

    def hear(self, kind: str) -> list[dict[str, Any] | bytes]:
        """All frames up to the first message of a kind."""
        frames: list[dict[str, Any] | bytes] = []
        while True:
            frame = self.socket.recv()
            frames.append(frame if isinstance(frame, bytes) else json.loads(frame))
            if isinstance(frames[-1], dict) and frames[-1]["type"] == kind:
                return frames

    def frames(self, prompt_id: str) -> list[dict[str, Any] | bytes]:
        """All frames up to the closing message of a prompt."""
        frames = self.hear("executing")
        while frames[-1]["data"] != {"node": None, "prompt_id": prompt_id}:  # type: ignore[call-overload]
            frames += self.hear("executing")
        return frames

    def run(self, graph: Graph, **body: Any) -> dict[str, Any]:
        """Run a prompt and give its history entry."""
        prompt_id = self.submit(graph, **body)
        self.frames(prompt_id)
        entry: dict[str, Any] = requests.get(f"{self.url}/history/{prompt_id}").json()[prompt_id]
        return entry


@pytest.fixture
def connect(engine: Engine) -> Iterator[Callable[[], Client]]:
    opened: list[Client] = []

    def start() -> Client:
        opened.append(Client(engine.url))
        return opened[-1]

    yield start
    for client in opened:
        client.socket.shutdown()


@pytest.fixture
def client(connect: Callable[[], Client]) -> Client:
    return connect()
