"""The fake's worker thread: runs one prompt after the other and tells of it in ComfyUI's order."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .images import Folder, Paint, paint_all, png
from .jobs import INTERRUPTED, Job, Jobs, now
from .rules import Rules
from .sockets import Hub
from .validation import upstream


class NodeFailure(Exception):
    """A node raises: ``(exception_type, message, node_id or None)``."""


class Interrupted(Exception):
    """The prompt was cancelled while it ran."""


class Vanished(Exception):
    """The prompt is gone without a trace."""


class Worker:
    """Executes graphs; remembers what each saver wrote, and answers an identical one from that cache."""

    def __init__(
        self,
        jobs: Jobs,
        hub: Hub,
        rules: Rules,
        folders: dict[str, Path],
        seconds_per_job: Callable[[], float],
        paint: Paint | None,
        count_image: Callable[[], None],
    ) -> None:
        self.jobs = jobs
        self.hub = hub
        self.rules = rules
        self.seconds = seconds_per_job
        self.paint = paint
        self.count_image = count_image
        self.folders = {kind: Folder(path) for kind, path in folders.items()}
        self.cache: dict[bytes, dict[str, Any]] = {}
        threading.Thread(target=self._run, name="fake worker", daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(SystemExit):  # and what was running stays "running" for ever
            while job := self.jobs.take():
                self._prompt(job)

    def _prompt(self, job: Job) -> None:
        job.worker = self
        cached = {
            target: self.cache[key] for target in job.targets if (key := _key(job, target)) in self.cache
        }
        nodes = sorted({node_id for target in cached for node_id in upstream(job.graph, target)})
        self._note(job, "execution_start")
        self._note(job, "execution_cached", nodes=nodes)
        try:
            self.rules.apply("prompt", job, partial(self._nodes, job, cached))
        except NodeFailure as failure:
            self._note(job, "execution_error", **_error(job, *failure.args))
        except Interrupted:
            self._note(job, INTERRUPTED, **_place(job, None))
        except Vanished:
            self.jobs.vanish(job)
            return
        else:
            self._note(job, "execution_success")
        self.jobs.done(job)
        self._tell(job, "executing", node=None)

    def _nodes(self, job: Job, cached: dict[str, dict[str, Any]]) -> None:
        order = dict.fromkeys(node_id for target in job.targets for node_id in upstream(job.graph, target))
        skipped = {node_id for target in cached for node_id in upstream(job.graph, target)}
        progress: dict[str, Any] = {}
        slowest = self._slowest(job, order)
        for node_id in order:
            if node_id in skipped and node_id not in cached:
                continue
            if node_id in cached:
                job.outputs[node_id] = cached[node_id]
                self._tell(job, "executed", node=node_id, display_node=node_id, output=cached[node_id])
            else:
                self._progress(job, progress, node_id, 0.0, 1.0, "running")
                self._tell(job, "executing", node=node_id, display_node=node_id)
                self._work(job, progress, node_id, self.seconds() if node_id == slowest else 0.0)
                if node_id in job.targets:
                    job.outputs[node_id] = self.cache[_key(job, node_id)] = self._save(job, node_id)
                    output = job.outputs[node_id]
                    self._tell(job, "executed", node=node_id, display_node=node_id, output=output)
            self._progress(job, progress, node_id, 1.0, 1.0, "finished")

    def _work(self, job: Job, progress: dict[str, Any], node_id: str, seconds: float) -> None:
        node = job.graph[node_id]
        steps = int(node["inputs"]["steps"]) if node["class_type"] == "KSampler" else 1
        for step in range(1, steps + 1):
            self.pause(job, seconds / steps)
            if steps > 1:
                self._progress(job, progress, node_id, step, steps, "running")
                self._tell(job, "progress", value=step, max=steps, node=node_id)

    def pause(self, job: Job, seconds: float) -> None:
        """Work for a while, unless interrupted or killed."""
        stop = job.interrupted.wait(seconds) if seconds else job.interrupted.is_set()
        if self.jobs.closed:
            raise SystemExit
        if stop:
            raise Interrupted

    def _save(self, job: Job, node_id: str) -> dict[str, Any]:
        node = job.graph[node_id]
        kind, prefix = "output", node["inputs"].get("filename_prefix")
        if prefix is None:  # PreviewImage
            kind, prefix = (
                "temp",
                "ComfyUI_temp_" + "".join(random.choices("abcdefghijklmnopqrstupvxyz", k=5)),
            )
        metadata = {"prompt": job.graph, **job.extra.get("extra_pnginfo", {})}
        images = []
        for image in paint_all(job.graph, node_id, self.paint):
            data = png(image, metadata)
            try:
                file, subfolder = self.folders[kind].save(prefix, job.alter(data) if job.alter else data)
            except (OSError, ValueError) as error:
                raise NodeFailure(type(error).__name__, str(error), node_id) from error
            images.append({"filename": file, "subfolder": subfolder, "type": kind})
            if kind == "output":
                self.count_image()
        return {"images": images}

    def _slowest(self, job: Job, order: dict[str, None]) -> str:
        """Pick the node that takes the time: the first sampler, or the first node."""
        return next(
            (node_id for node_id in order if job.graph[node_id]["class_type"] == "KSampler"),
            next(iter(order)),
        )

    def _note(self, job: Job, event: str, **data: Any) -> None:
        """Keep for history, and tell the client; of an interruption everybody hears where there is no client."""
        data = {**data, "prompt_id": job.prompt_id, "timestamp": now()}
        job.messages.append((event, data))
        if "client_id" in job.extra or event == INTERRUPTED:
            self.hub.send(event, data, job.extra.get("client_id"))

    def _tell(self, job: Job, event: str, **data: Any) -> None:
        if "client_id" in job.extra:
            self.hub.send(event, {**data, "prompt_id": job.prompt_id}, job.extra["client_id"])

    def _progress(
        self, job: Job, nodes: dict[str, Any], node_id: str, value: float, largest: float, state: str
    ) -> None:
        """Send progress_state, which goes to everybody where the prompt has no client."""
        nodes[node_id] = {
            "value": value,
            "max": largest,
            "state": state,
            "node_id": node_id,
            "prompt_id": job.prompt_id,
            "display_node_id": node_id,
            "parent_node_id": None,
            "real_node_id": node_id,
        }
        data = {"prompt_id": job.prompt_id, "nodes": dict(nodes)}
        self.hub.send("progress_state", data, job.extra.get("client_id"))


def _key(job: Job, saver: str) -> bytes:
    above = [
        (node_id, job.graph[node_id]["class_type"], job.graph[node_id]["inputs"])
        for node_id in upstream(job.graph, saver)
    ]
    return hashlib.blake2b(json.dumps(above).encode(), digest_size=16).digest()


def _place(job: Job, node_id: str | None) -> dict[str, Any]:
    node_id = node_id or next(iter(upstream(job.graph, job.targets[0])))
    return {"node_id": node_id, "node_type": job.graph[node_id]["class_type"], "executed": []}


def _error(job: Job, exception_type: str, message: str, node_id: str | None) -> dict[str, Any]:
    return {
        **_place(job, node_id),
        "exception_message": f"{message}\n",
        "exception_type": exception_type,
        "traceback": [f'  File "nodes.py", line 1, in execute\n    raise {exception_type}\n'],
        "current_inputs": {},
        "current_outputs": [],
    }
