"""The server's memory: queue, running prompt and history. A restart loses it."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .graph import Graph

INTERRUPTED = "execution_interrupted"


@dataclass(order=True, slots=True)
class Job:
    """A queued prompt; ``priority`` is ComfyUI's ``number``, ``serial`` the order of arrival."""

    priority: float
    serial: int
    prompt_id: str = field(compare=False)
    graph: Graph = field(compare=False)
    extra: dict[str, Any] = field(compare=False)
    targets: list[str] = field(compare=False)
    worker: Any = field(default=None, compare=False, repr=False)
    interrupted: threading.Event = field(default_factory=threading.Event, compare=False)
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list, compare=False)
    outputs: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def client_id(self) -> str | None:
        """The websocket that hears of it."""
        return self.extra.get("client_id")

    def item(self) -> list[Any]:
        """The tuple that /queue and /history show."""
        return [self.priority, self.prompt_id, self.graph, self.extra, self.targets]


class Jobs:
    """Thread-safe; ``changed`` is called under the lock after every change of the queue's length."""

    def __init__(self, changed: Callable[[], None], history_size: int = 10_000) -> None:
        self._changed = changed
        self._history_size = history_size
        self._ready = threading.Condition(threading.RLock())
        self._waiting: list[Job] = []
        self._by_id: dict[str, list[Job]] = {}
        self._serial = 0
        self.running: dict[str, Job] = {}
        self.history: dict[str, dict[str, Any]] = {}
        self.closed = False

    def put(
        self, prompt_id: str, graph: Graph, extra: dict[str, Any], targets: list[str], body: dict[str, Any]
    ) -> Job:
        """Queue a prompt; the same id twice is two jobs."""
        with self._ready:
            number: float = -self._serial if body.get("front") else self._serial
            if "number" in body:
                number = float(body["number"])
            job = Job(number, self._serial, prompt_id, graph, extra, targets)
            self._serial += 1
            heapq.heappush(self._waiting, job)
            self._by_id.setdefault(prompt_id, []).append(job)
            self._changed()
            self._ready.notify()
            return job

    def take(self) -> Job | None:
        """Wait for the next job; None when the server is closed."""
        with self._ready:
            self._ready.wait_for(lambda: self._waiting or self.closed)
            if self.closed:
                return None
            job = heapq.heappop(self._waiting)
            self._forget_id(job)
            self.running[job.prompt_id] = job
            self._changed()
            return job

    def done(self, job: Job) -> None:
        """Move the running job to history."""
        success = job.messages[-1][0] == "execution_success"
        with self._ready:
            del self.running[job.prompt_id]
            if len(self.history) >= self._history_size:
                del self.history[next(iter(self.history))]
            self.history[job.prompt_id] = {
                "prompt": job.item(),
                "outputs": job.outputs,
                "status": {
                    "status_str": "success" if success else "error",
                    "completed": success,
                    "messages": job.messages,
                },
                "meta": {
                    node_id: {
                        "node_id": node_id,
                        "display_node": node_id,
                        "parent_node": None,
                        "real_node_id": node_id,
                    }
                    for node_id in job.outputs
                },
            }
            self._changed()

    def vanish(self, job: Job) -> None:
        """Forget the running job without a trace."""
        with self._ready:
            del self.running[job.prompt_id]
            self._changed()

    def remaining(self) -> int:
        """How many prompts wait or run."""
        return len(self._waiting) + len(self.running)

    def waiting(self) -> list[Job]:
        """The waiting jobs, in ComfyUI's heap order."""
        with self._ready:
            return list(self._waiting)

    def delete(self, prompt_id: str) -> bool:
        """Take one waiting job of this id out of the queue."""
        with self._ready:
            if prompt_id not in self._by_id:
                return False
            job = self._by_id[prompt_id][0]
            self._waiting.remove(job)
            heapq.heapify(self._waiting)
            self._forget_id(job)
            self._changed()
            return True

    def interrupt(self, prompt_id: str | None = None) -> bool:
        """Interrupt the running job if it has this id, or whatever runs."""
        with self._ready:
            jobs = [job for job in self.running.values() if prompt_id in (None, job.prompt_id)]
            for job in jobs:
                job.interrupted.set()
            return bool(jobs)

    def clear(self) -> None:
        """Forget all that waits."""
        with self._ready:
            self._waiting.clear()
            self._by_id.clear()
            self._changed()

    def close(self) -> None:
        """Let the worker end."""
        with self._ready:
            self.closed = True
            for job in self.running.values():
                job.interrupted.set()
            self._ready.notify_all()

    def describe(self, prompt_id: str) -> dict[str, Any] | None:
        """One job as GET /api/jobs/{id} gives it."""
        with self._ready:
            if entry := self.history.get(prompt_id):
                return {
                    **_summary(entry),
                    "outputs": entry["outputs"],
                    "execution_status": entry["status"],
                    "workflow": {"prompt": entry["prompt"][2], "extra_data": entry["prompt"][3]},
                }
            if job := self.running.get(prompt_id):
                return _queued(job, "in_progress")
            if prompt_id in self._by_id:
                return _queued(self._by_id[prompt_id][0], "pending")
            return None

    def all(self) -> list[dict[str, Any]]:
        """All jobs as GET /api/jobs lists them, before sorting and paging."""
        with self._ready:
            return [
                *(_queued(job, "in_progress") for job in self.running.values()),
                *(_queued(job, "pending") for job in self._waiting),
                *(_summary(entry) for entry in self.history.values()),
            ]

    def _forget_id(self, job: Job) -> None:
        self._by_id[job.prompt_id].remove(job)
        if not self._by_id[job.prompt_id]:
            del self._by_id[job.prompt_id]


def now() -> int:
    """Milliseconds since the epoch, as in ComfyUI's timestamps."""
    return int(time.time() * 1000)


def _queued(job: Job, status: str) -> dict[str, Any]:
    return {
        "id": job.prompt_id,
        "status": status,
        "priority": job.priority,
        "create_time": job.extra["create_time"],
        "outputs_count": 0,
        "previewable_outputs_count": 0,
        **_workflow_id(job.extra),
    }


def _summary(entry: dict[str, Any]) -> dict[str, Any]:
    number, prompt_id, _, extra, _ = entry["prompt"]
    messages = dict(entry["status"]["messages"])
    files = [
        {**item, "nodeId": node_id, "mediaType": kind}
        for node_id, output in entry["outputs"].items()
        for kind, items in output.items()
        for item in items
    ]
    status = "completed"
    if entry["status"]["status_str"] == "error":
        status = "cancelled" if INTERRUPTED in messages else "failed"
    job = {
        "id": prompt_id,
        "status": status,
        "priority": number,
        "create_time": extra["create_time"],
        "execution_start_time": messages["execution_start"]["timestamp"],
        "execution_end_time": entry["status"]["messages"][-1][1]["timestamp"],
        "outputs_count": len(files),
        "previewable_outputs_count": len(files),
        **_workflow_id(extra),
    }
    if "execution_error" in messages:
        job["execution_error"] = messages["execution_error"]
    if files:
        job["preview_output"] = next((file for file in files if file["type"] == "output"), files[0])
    return job


def _workflow_id(extra: dict[str, Any]) -> dict[str, Any]:
    # a null workflow breaks it, as there
    workflow_id = extra.get("extra_pnginfo", {}).get("workflow", {}).get("id")
    return {} if workflow_id is None else {"workflow_id": workflow_id}
