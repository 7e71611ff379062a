"""Runs nodes for real."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...protocol import Job, Jobs, Made, Worker, is_link
from ...protocol.catalogue import object_info
from ...protocol.files import Folder, annotated
from ..models.checkpoint import Checkpoint
from .checkpoints import Checkpoints
from .sockets import SocketHub

if TYPE_CHECKING:
    from torch import Tensor

OUT_OF_MEMORY = "Models and earlier results were dropped. Try a smaller width, height or batch_size."


class EngineWorker(Worker):
    """
    Executes graphs with the engine's nodes.

    What the last prompt made is remembered, for the next one that shares some of its nodes. ``ready`` is set when
    torch is imported, which happens in the background: the server listens before.
    """

    def __init__(
        self,
        jobs: Jobs,
        hub: SocketHub,
        folders: Mapping[str, Path],
        checkpoints: Checkpoints,
    ) -> None:
        super().__init__(jobs, hub, folders)
        self.sockets = hub
        self.savers = {kind: Folder(folders[kind], exclusive=True) for kind in ("output", "temp")}
        self.checkpoints = checkpoints
        self.ready = threading.Event()
        self._forget = threading.Event()
        self._input_names = {
            name: set(node["input"]["required"]) for name, node in object_info((), (), ()).items()
        }

    def serve(self) -> None:
        """Take jobs until the server closes."""
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # docs/performance.md, "Waiting threads"
        os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
        for noisy in ("torchao", "torch.utils._pytree"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        with contextlib.suppress(ImportError):  # then each prompt fails, and says so
            import torch

            from .. import nodes  # noqa: F401 - so that the first prompt need not wait for them
            from ..models import sd3  # noqa: F401

            torch.set_grad_enabled(False)
        self.ready.set()
        super().serve()

    def forget(self) -> None:
        """Let go of models and results: now if nothing runs, or else before the next prompt."""
        self._forget.set()
        if not self.jobs.running:
            self._release()

    def begin(self, keys: set[bytes]) -> None:
        """Forget what this prompt does not need."""
        if self._forget.is_set():
            self._release()
        self.cache = {key: made for key, made in self.cache.items() if key in keys}

    def _release(self) -> None:
        self._forget.clear()
        self.cache = {}
        self.inputs = {}
        self.checkpoints.drop()
        gc.collect()

    def run(self, job: Job, node_id: str) -> Made:
        """Execute one node."""
        from ..nodes import NODES

        node = job.graph[node_id]
        self.inputs = {
            name: self.made_by(value[0]).outputs[value[1]] if is_link(value) else value
            for name, value in node["inputs"].items()
            if name in self._input_names[node["class_type"]]
        }
        made = NODES[node["class_type"]](_Turn(self, job), **self.inputs)
        return made if isinstance(made, Made) else Made(made)

    def failure(self, error: Exception) -> dict[str, Any]:
        """What execution_error says; after an out-of-memory the memory is given back."""
        told = super().failure(error)
        if _is_out_of_memory(error):
            told["exception_message"] += OUT_OF_MEMORY
            self._release()
        return told

    def step(self, job: Job, number: int, steps: int, paint: Callable[[], Tensor]) -> None:
        """Tell of a sampling step, with a preview where one is wanted and heard."""
        self.pause(job)
        listener = self.sockets.listener(job.client_id)
        method = job.extra.get("preview_method") or "default"
        if listener is None or method in ("default", "none"):
            self.progress(job, number, steps)
            return
        from .previews import jpeg

        picture = jpeg(paint())
        if listener.flags.get("supports_preview_metadata"):
            ids = dict.fromkeys(("node_id", "display_node_id", "real_node_id"), self.node)
            about = {**ids, "parent_node_id": None, "prompt_id": job.prompt_id}
            send = self.sockets.send_preview_with_metadata
            self.progress(job, number, steps, partial(send, picture, about, listener.sid))
        else:
            self.progress(job, number, steps)
            self.sockets.send_preview(picture, listener.sid)


@dataclass(frozen=True, slots=True)
class _Turn:
    """The Context of a node."""

    worker: EngineWorker
    job: Job

    @property
    def metadata(self) -> Mapping[str, Any]:
        return {"prompt": self.job.graph, **(self.job.extra.get("extra_pnginfo") or {})}

    @property
    def savers(self) -> Mapping[str, Folder]:
        return self.worker.savers

    def checkpoint(self, name: str) -> Checkpoint:
        return self.worker.checkpoints.get(name)

    def input_file(self, name: str) -> Path:
        return annotated(self.worker.folders, name)

    def on_step(self, number: int, steps: int, paint: Callable[[], Tensor]) -> None:
        self.worker.step(self.job, number, steps, paint)


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "DefaultCPUAllocator" in str(error)
