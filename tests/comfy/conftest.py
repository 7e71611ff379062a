from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from promptmill.driver.comfy import ComfyClient, Event, EventKind, EventStream, Lookup
from promptmill.driver.engine import Engine
from promptmill.driver.testing import FakeComfy

Graph = dict[str, Any]


@pytest.fixture
def fake() -> Iterator[FakeComfy]:
    with FakeComfy() as fake:
        yield fake


@pytest.fixture
def client(fake: FakeComfy) -> ComfyClient:
    return ComfyClient(fake.url)


@pytest.fixture
def blank() -> Callable[..., Graph]:
    """EmptyImage -> SaveImage, the smallest graph a real server runs without a model."""

    def build(prefix: str = "blank", *, size: int = 64, batch_size: int = 1) -> Graph:
        image = {"width": size, "height": size, "batch_size": batch_size, "color": 255}
        return {
            "1": {"class_type": "EmptyImage", "inputs": image},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
        }

    return build


@pytest.fixture
def text_to_image() -> Callable[..., Graph]:
    def build(
        text: str = "a cat", *, seed: int = 1, steps: int = 2, prefix: str = "row", **size: int
    ) -> Graph:
        latent = {"width": 64, "height": 64, "batch_size": 1, **size}
        sampler = {
            "model": ["1", 0],
            "positive": ["2", 0],
            "negative": ["3", 0],
            "latent_image": ["4", 0],
            "seed": seed,
            "steps": steps,
            "cfg": 7.0,
            "sampler_name": "euler",
            "scheduler": "simple",
            "denoise": 1.0,
        }
        return {
            "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "model_a.safetensors"}},
            "2": {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["1", 1]}},
            "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
            "4": {"class_type": "EmptyLatentImage", "inputs": latent},
            "5": {"class_type": "KSampler", "inputs": sampler},
            "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
            "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": prefix}},
        }

    return build


@pytest.fixture
def submit() -> Callable[..., str]:
    """Submit a graph under a fresh id, which is returned."""

    def send(client: ComfyClient, graph: Graph, client_id: str | None = None) -> str:
        prompt_id = str(uuid.uuid4())
        client.submit(prompt_id, graph, client_id=client_id)
        return prompt_id

    return send


@pytest.fixture
def finish() -> Callable[..., Lookup]:
    """Wait until nothing waits or runs, then look an id up."""

    def wait(client: ComfyClient, prompt_id: str) -> Lookup:
        until(lambda: client.queue_remaining() == 0)
        return client.lookup(prompt_id)

    return wait


@pytest.fixture
def run_graph(submit: Callable[..., str], finish: Callable[..., Lookup]) -> Callable[..., Lookup]:
    return lambda client, graph: finish(client, submit(client, graph))


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this never happened"
        time.sleep(0.005)


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., None]:
    return until


class Ears:
    """An EventStream with its queue."""

    def __init__(self, url: str, **options: Any) -> None:
        self.queue: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.stream = EventStream(url, self.queue.put, **options)
        self.stream.start()

    def next(self, kind: EventKind) -> Event:
        """The next event of a kind; others before it are skipped."""
        while (event := self.queue.get(timeout=30)).kind is not kind:
            pass
        return event

    def upto(self, kind: EventKind) -> list[Event]:
        events = [self.queue.get(timeout=30)]
        while events[-1].kind is not kind:
            events.append(self.queue.get(timeout=30))
        return events


@pytest.fixture
def listen() -> Iterator[Callable[..., Ears]]:
    """Open an event stream and wait until the server knows it."""
    opened: list[Ears] = []

    def start(url: str, **options: Any) -> Ears:
        ears = Ears(url, **options)
        opened.append(ears)
        ears.next(EventKind.CONNECTED)
        return ears

    yield start
    for ears in opened:
        ears.stream.stop()


@pytest.fixture(scope="session")
def engine_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="session")
def engine(engine_base: Path) -> Iterator[str]:
    """The address of an engine; what is asked of it here needs no model."""
    with Engine(engine_base) as engine:
        yield engine.url


@pytest.fixture(scope="session")
def real_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("comfyui")


@pytest.fixture(scope="module")
def real_comfy(start_comfyui: Callable[..., Any], real_base: Path) -> str:
    """The address of a real ComfyUI, started on the CPU."""
    url: str = start_comfyui(real_base).url
    return url
