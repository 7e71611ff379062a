"""A mill: a small table, a workflow, an output folder, and the audit that must hold after every fault."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from promptmill.driver.ledger import AttemptState, JobState, Ledger
from promptmill.driver.output import existing_output
from promptmill.driver.runner import Observer, Request, RunEvent, RunResult, WorkerSettings, run
from promptmill.driver.testing import FakeComfy

WORKFLOW = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "model_a.safetensors"}},
    "6": {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "a cat", "clip": ["4", 1]},
        "_meta": {"title": "Positive Prompt"},
    },
    "7": {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "blurry", "clip": ["4", 1]},
        "_meta": {"title": "Negative Prompt"},
    },
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 1,
            "steps": 2,
            "cfg": 4.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "ComfyUI"}},
}
PATIENT = WorkerSettings(timeout=60.0, poll=0.1, handover=30.0, reaction=30.0)
"""For servers that come back or go on: a machine with much to do may take seconds to restart one."""
QUICK = replace(PATIENT, timeout=2.0, handover=1.0, reaction=1.0)
"""For servers that are given up."""
TERMINAL = {JobState.DONE, JobState.FAILED, JobState.QUARANTINED, JobState.CANCELLED}


class Watcher(Observer):
    """Keeps the events; ``on_event`` may interrupt."""

    def __init__(self, on_event: Callable[[RunEvent], None] | None = None) -> None:
        self.events: list[RunEvent] = []
        self._on_event = on_event

    def event(self, event: RunEvent) -> None:
        self.events.append(event)
        if self._on_event:
            self._on_event(event)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


@dataclass
class Mill:
    folder: Path
    rows: list[dict[str, str]] = field(default_factory=list)

    @property
    def table(self) -> Path:
        return self.folder / "products.csv"

    @property
    def workflow(self) -> Path:
        return self.folder / "workflow.json"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def write(self, count: int = 6, change: Callable[[list[dict[str, str]]], None] | None = None) -> None:
        self.rows = [
            {"sku": f"S{n}", "prompt": f"product number {n} of the row"} for n in range(1, count + 1)
        ]
        if change:
            change(self.rows)
        with self.table.open("w", newline="", encoding="utf-8") as file:
            columns = list(dict.fromkeys(key for row in self.rows for key in row))
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)

    def write_workflow(self, change: Callable[[dict[str, Any]], None] | None = None) -> None:
        graph = json.loads(json.dumps(WORKFLOW))
        if change:
            change(graph)
        self.workflow.write_text(json.dumps(graph), encoding="utf-8")

    def request(self, *fakes: FakeComfy | str, **given: Any) -> Request:
        urls = tuple(fake if isinstance(fake, str) else fake.url for fake in fakes)
        return Request(given.pop("table", self.table), given.pop("workflow", self.workflow), urls, **given)

    def run(
        self,
        *fakes: FakeComfy | str,
        settings: WorkerSettings = PATIENT,
        watcher: Watcher | None = None,
        retry: frozenset[JobState] = frozenset(),
        force: bool = False,
        database: str | None = None,
        **given: Any,
    ) -> RunResult:
        return run(
            self.request(*fakes, **given),
            out=self.out,
            settings=settings,
            observer=watcher or Watcher(),
            retry=retry,
            force=force,
            database=database,
        )

    def entries(self, database: str | None = None) -> list[dict[str, Any]]:
        folder = existing_output(self.out, database=database)
        ledger = Ledger(folder.ledger_url)
        try:
            return [dict(entry) for entry in ledger.entries(folder.run_id)]
        finally:
            ledger.close()

    def attempts(self, database: str | None = None) -> list[dict[str, Any]]:
        folder = existing_output(self.out, database=database)
        ledger = Ledger(folder.ledger_url)
        try:
            return [dict(attempt) for attempt in ledger.attempts(folder.run_id)]
        finally:
            ledger.close()

    def states(self) -> dict[str, str]:
        return {entry["row_id"]: entry["state"] for entry in self.entries()}

    def audit(self, expected: int, *, fakes: tuple[FakeComfy, ...] = (), done: int | None = None) -> None:
        """What must hold after every fault: one terminal record a job, one file a record, nothing lost or twice."""
        entries = self.entries()
        jobs = [(entry["row_id"], entry["variant"]) for entry in entries]
        assert len(jobs) == len(set(jobs)) == expected
        assert {JobState(entry["state"]) for entry in entries} <= TERMINAL
        kept = [entry for entry in entries if entry["state"] == "done"]
        assert len(kept) == (expected if done is None else done)
        files = [entry["file"] for entry in kept]
        assert len(set(files)) == len(files)
        for entry in kept:
            data = (self.out / entry["file"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == entry["sha256"]
            Image.open(io.BytesIO(data)).load()
            assert not entry["thumbnail"] or (self.out / entry["thumbnail"]).is_file()
        on_disk = {
            path.relative_to(self.out).as_posix()
            for path in self.out.rglob("*.png")
            if path.relative_to(self.out).parts[0] not in ("superseded", "thumbnails")
        }
        assert on_disk == set(files)
        assert not list(self.out.rglob("*.part"))
        attempts = self.attempts()
        assert all(attempt["state"] != AttemptState.OPEN.value for attempt in attempts)
        logged = {attempt["id"] for attempt in attempts}
        for fake in fakes:
            assert {post.prompt_id for post in fake.posts} <= logged
        accepted = [attempt for attempt in attempts if attempt["state"] == AttemptState.ACCEPTED.value]
        assert len(accepted) >= len(kept)
        manifest = [json.loads(line) for line in (self.out / "manifest.jsonl").open(encoding="utf-8")]
        assert [(line["id"], line["file"]) for line in manifest] == [
            (entry["row_id"], entry["file"] or "") for entry in entries
        ]


@pytest.fixture
def mill(tmp_path: Path) -> Mill:
    mill = Mill(tmp_path)
    mill.write()
    mill.write_workflow()
    return mill


@pytest.fixture
def fake() -> Iterator[FakeComfy]:
    with FakeComfy() as fake:
        yield fake


@pytest.fixture
def other() -> Iterator[FakeComfy]:
    with FakeComfy() as fake:
        yield fake


@pytest.fixture
def patient() -> WorkerSettings:
    return PATIENT


@pytest.fixture
def quick() -> WorkerSettings:
    return QUICK


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def watch() -> type[Watcher]:
    return Watcher
