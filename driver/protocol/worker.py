"""The worker thread: runs one prompt after the other and tells of it in ComfyUI's order."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import traceback
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .files import annotated
from .graph import Node, signatures, upstream
from .jobs import INTERRUPTED, Job, Jobs, now
from .validation import type_name


class Interrupted(Exception):
    """The prompt was cancelled while it ran."""


class Hub(Protocol):
    """All websockets."""

    def send(self, kind: str, data: dict[str, Any], sid: str | None = None) -> None:
        """Queue a message for one client, or for all."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a node made: values for its outputs, and what clients and history see of it."""

    outputs: tuple[Any, ...] = ()
    ui: dict[str, Any] | None = None


class Worker(ABC):
    """
    Executes graphs node by node; nodes whose inputs are unchanged are answered from the cache.

    A SystemExit in a node ends the thread, and what was running stays "running" for ever, as in ComfyUI.
    """

    def __init__(self, jobs: Jobs, hub: Hub, folders: Mapping[str, Path]) -> None:
        self.jobs = jobs
        self.hub = hub
        self.folders = folders
        self.cache: dict[bytes, Made] = {}
        self.node: str | None = None
        self.order: list[str] = []
        self.inputs: dict[str, Any] = {}
        self._thread = threading.Thread(target=self.serve, name="worker", daemon=True)
        self._keys: dict[str, bytes] = {}
        self._states: dict[str, Any] = {}
        self._executed: list[str] = []

    @abstractmethod
    def run(self, job: Job, node_id: str) -> Made:
        """Execute one node; what it raises becomes an execution_error."""

    def start(self) -> None:
        """Begin to take jobs, in a thread that never keeps the process alive."""
        self._thread.start()

    def join(self, seconds: float = 10.0) -> None:
        """Wait until it ended: a thread inside torch when the interpreter goes can crash it."""
        self._thread.join(seconds)

    def serve(self) -> None:
        """Take jobs until the server closes."""
        with contextlib.suppress(SystemExit):
            while job := self.jobs.take():
                self.prompt(job)

    def prompt(self, job: Job) -> None:
        """Run one prompt, tell of it, and put it into history."""
        job.worker = self
        self.node, self.inputs, self._states, self._executed = None, {}, {}, []
        self._keys, self.order = {}, job.targets
        self._note(job, "execution_start")
        try:
            self._keys = signatures(job.graph, job.targets, self._fingerprint)
            self.begin(set(self._keys.values()))
            cached = [node_id for node_id, key in self._keys.items() if key in self.cache]
            self.order = upstream(job.graph, job.targets, set(cached))
            self._note(job, "execution_cached", nodes=cached)
            self.perform(job)
        except Interrupted:
            self._note(job, INTERRUPTED, **self._place(job))
        except Exception as error:
            self._note(job, "execution_error", **self.failure(error), **self._place(job))
        else:
            self._note(job, "execution_success")
        self.node = None
        self.jobs.done(job)
        self._tell(job, "executing", node=None)

    def begin(self, keys: set[bytes]) -> None:  # noqa: B027 - remembering all is a choice
        """Before a prompt with these signatures: the time to forget others."""

    def perform(self, job: Job) -> None:
        """Run the nodes that a prompt needs."""
        for node_id in self.order:
            made = self.cache.get(self._keys[node_id])
            if made is None:
                self.node, self.inputs = node_id, {}
                self._state(job, node_id, 0.0, 1.0, "running")
                self._tell(job, "executing", node=node_id, display_node=node_id)
                self.pause(job)
                made = self.cache[self._keys[node_id]] = self.run(job, node_id)
                self._executed.append(node_id)
            elif made.ui is None:
                self._tell(job, "executed", node=node_id, display_node=node_id, output=None)
            if made.ui is not None:
                job.outputs[node_id] = made.ui
                self._tell(job, "executed", node=node_id, display_node=node_id, output=made.ui)
            largest = self._states.get(node_id, {"max": 1.0})["max"]
            self._state(job, node_id, largest, largest, "finished")

    def made_by(self, node_id: str) -> Made:
        """What a node of this prompt made."""
        return self.cache[self._keys[node_id]]

    def pause(self, job: Job, seconds: float = 0.0) -> None:
        """
        Wait a while.

        :raises Interrupted: the prompt was cancelled.
        :raises SystemExit: the server is closed.
        """
        stop = job.interrupted.wait(seconds) if seconds else job.interrupted.is_set()
        if self.jobs.closed:
            raise SystemExit
        if stop:
            raise Interrupted

    def progress(
        self, job: Job, value: int, largest: int, between: Callable[[], None] = lambda: None
    ) -> None:
        """
        Tell how far the running node is; where the prompt has no client, everybody hears it.

        :param between: what to do after progress_state and before progress.
        """
        assert self.node
        self._state(job, self.node, value, largest, "running")
        between()
        data = {"value": value, "max": largest, "prompt_id": job.prompt_id, "node": self.node}
        self.hub.send("progress", data, job.client_id)

    def failure(self, error: Exception) -> dict[str, Any]:
        """What execution_error says of an exception."""
        return {
            "exception_message": f"{error}\n",
            "exception_type": type_name(error),
            "traceback": traceback.format_tb(error.__traceback__),
            "current_inputs": {name: [_shown(value)] for name, value in self.inputs.items()},
            "current_outputs": [node_id for node_id, key in self._keys.items() if key in self.cache],
        }

    def _fingerprint(self, node: Node) -> str:
        """Of LoadImage, what is in the file."""
        if node["class_type"] != "LoadImage":
            return ""
        try:
            return hashlib.sha256(annotated(self.folders, node["inputs"]["image"]).read_bytes()).hexdigest()
        except OSError:  # it went away since the prompt was accepted: let the node say so
            return uuid.uuid4().hex

    def _place(self, job: Job) -> dict[str, Any]:
        node_id = self.node or self.order[0]
        return {
            "node_id": node_id,
            "node_type": job.graph[node_id]["class_type"],
            "executed": list(self._executed),
        }

    def _note(self, job: Job, event: str, **data: Any) -> None:
        """Keep for history, and tell the client; of an interruption everybody hears where there is no client."""
        data = {**data, "prompt_id": job.prompt_id, "timestamp": now()}
        job.messages.append((event, data))
        if job.client_id is not None or event == INTERRUPTED:
            self.hub.send(event, data, job.client_id)

    def _tell(self, job: Job, event: str, **data: Any) -> None:
        if job.client_id is not None:
            self.hub.send(event, {**data, "prompt_id": job.prompt_id}, job.client_id)

    def _state(self, job: Job, node_id: str, value: float, largest: float, state: str) -> None:
        """Send progress_state, which goes to everybody where the prompt has no client."""
        self._states[node_id] = {
            "value": value,
            "max": largest,
            "state": state,
            "node_id": node_id,
            "prompt_id": job.prompt_id,
            "display_node_id": node_id,
            "parent_node_id": None,
            "real_node_id": node_id,
        }
        data = {"prompt_id": job.prompt_id, "nodes": dict(self._states)}
        self.hub.send("progress_state", data, job.client_id)


def _shown(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | str) else str(value)
