"""The fake's nodes: they take as long as told, and paint what the graph says."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..protocol import Hub, Job, Jobs, Made, Worker
from ..protocol.files import Folder
from .images import Paint, encode, paint_all
from .rules import Rules


class NodeFailure(Exception):
    """A node raises: ``(exception_type, message, node_id or None)``."""


class Vanished(BaseException):
    """The prompt is gone without a trace."""


class FakeWorker(Worker):
    """Paints for each saver; does what the rules say instead."""

    def __init__(
        self,
        jobs: Jobs,
        hub: Hub,
        rules: Rules,
        folders: Mapping[str, Path],
        seconds_per_job: Callable[[], float],
        paint: Paint | None,
        count_image: Callable[[], None],
    ) -> None:
        super().__init__(jobs, hub, folders)
        self.rules = rules
        self.seconds = seconds_per_job
        self.paint = paint
        self.count_image = count_image
        self.savers = {kind: Folder(path, exclusive=False) for kind, path in folders.items()}
        self.alter: Callable[[bytes], bytes] | None = None

    def prompt(self, job: Job) -> None:
        """Run one prompt, unless a rule makes it vanish."""
        self.alter = None
        try:
            super().prompt(job)
        except Vanished:
            self.jobs.vanish(job)

    def perform(self, job: Job) -> None:
        """Run the nodes as the rules want it."""
        self.rules.apply("prompt", job, partial(super().perform, job))

    def run(self, job: Job, node_id: str) -> Made:
        """Take the time of a node, and paint if it saves."""
        node = job.graph[node_id]
        steps = int(node["inputs"]["steps"]) if node["class_type"] == "KSampler" else 1
        seconds = self.seconds() if node_id == self._slowest(job) else 0.0
        for step in range(1, steps + 1):
            self.pause(job, seconds / steps)
            if steps > 1:
                self.progress(job, step, steps)
        return Made(ui=self._save(job, node_id) if node_id in job.targets else None)

    def failure(self, error: Exception) -> dict[str, Any]:
        """What execution_error says of a failure that a rule asked for, or of a real one."""
        if not isinstance(error, NodeFailure):
            return super().failure(error)
        exception_type, message, self.node = error.args
        return {
            "exception_message": f"{message}\n",
            "exception_type": exception_type,
            "traceback": [f'  File "nodes.py", line 1, in execute\n    raise {exception_type}\n'],
            "current_inputs": {},
            "current_outputs": [],
        }

    def _slowest(self, job: Job) -> str:
        """Pick the node that takes the time: the first sampler, or the first node."""
        samplers = (node_id for node_id in self.order if job.graph[node_id]["class_type"] == "KSampler")
        return next(samplers, self.order[0])

    def _save(self, job: Job, node_id: str) -> dict[str, Any]:
        kind, prefix = "output", job.graph[node_id]["inputs"].get("filename_prefix")
        if prefix is None:  # PreviewImage
            letters = "".join(random.choices("abcdefghijklmnopqrstupvxyz", k=5))
            kind, prefix = "temp", f"ComfyUI_temp_{letters}"
        metadata = {"prompt": job.graph, **job.extra.get("extra_pnginfo", {})}
        images = []
        for index, image in enumerate(paint_all(job.graph, node_id, self.paint)):
            data = encode(image, metadata)
            data = self.alter(data) if self.alter else data
            file, subfolder = self.savers[kind].save(prefix, data, index, image.size)
            images.append({"filename": file, "subfolder": subfolder, "type": kind})
            if kind == "output":
                self.count_image()
        return {"images": images}
