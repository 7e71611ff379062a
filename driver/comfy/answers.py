"""ComfyUI's replies as frozen records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath
from typing import Any, Literal

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"})

_OUT_OF_MEMORY = re.compile(
    r"OutOfMemory|MemoryError|out of memory|Allocation on device|not enough memory|CUBLAS_STATUS_ALLOC_FAILED",
    re.I,
)
_DEVICE = re.compile(
    r"CUDA error|CUDA driver|device-side assert|cuDNN|cuBLAS|HIP error|AcceleratorError", re.I
)


class JobState(Enum):
    """Where a prompt is, as far as its server can tell."""

    UNKNOWN = "unknown"
    """Neither queued nor in history: never arrived, cancelled while pending, evicted, or lost in a restart."""
    PENDING = "pending"
    """In the queue."""
    RUNNING = "running"
    """Being executed."""
    DONE = "done"
    """Ended without an error. Whether it made the expected images is for the caller to judge."""
    FAILED = "failed"
    """A node raised an exception."""
    CANCELLED = "cancelled"
    """Interrupted while it ran."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A file on the server, as GET /view wants it named. ``type`` is output, temp or input."""

    filename: str
    subfolder: str
    type: str
    node_id: str


@dataclass(frozen=True, slots=True)
class ExecutionError:
    """The exception a node raised; ``traceback`` is its innermost frame."""

    node_id: str
    node_type: str
    exception_type: str
    message: str
    traceback: str = ""

    @property
    def kind(self) -> Literal["out_of_memory", "cuda", "other"]:
        """Whose fault it is likely to be: too little memory, a broken device, or the prompt's."""
        text = f"{self.exception_type}: {self.message}"
        if _OUT_OF_MEMORY.search(text):
            return "out_of_memory"
        return "cuda" if _DEVICE.search(text) else "other"

    @classmethod
    def parse(cls, data: dict[str, Any]) -> ExecutionError:
        """Read the data of an ``execution_error`` message."""
        frames = data.get("traceback") or [""]
        return cls(
            node_id=str(data.get("node_id")),
            node_type=str(data.get("node_type")),
            exception_type=str(data.get("exception_type")),
            message=str(data.get("exception_message")).strip(),
            traceback=str(frames[-1]).strip(),
        )


@dataclass(frozen=True, slots=True)
class Lookup:
    """
    What the server knows of one prompt.

    ``outputs`` holds the saved images in the server's order, or the temporary ones where none was saved;
    ``other_outputs`` tells that there were also text, video, audio, ... ``started`` is by the server's clock
    (seconds since the epoch), ``seconds`` is the execution's duration.
    """

    state: JobState
    outputs: tuple[ImageRef, ...] = ()
    other_outputs: bool = False
    error: ExecutionError | None = None
    started: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class QueueState:
    """The prompt ids a server has, everybody's."""

    running: frozenset[str]
    pending: frozenset[str]


def finished(outputs: dict[str, Any], status: dict[str, Any] | None) -> Lookup:
    """Read a history entry: its ``outputs`` and its ``status``, which old servers leave out."""
    status = status or {}
    messages = {name: data for name, data in status.get("messages") or ()}
    error = messages.get("execution_error")
    if "execution_interrupted" in messages:
        state = JobState.CANCELLED
    elif error or status.get("status_str") == "error":
        state = JobState.FAILED
    else:
        state = JobState.DONE
    ends = ("execution_success", "execution_error", "execution_interrupted")
    start = messages.get("execution_start", {}).get("timestamp")
    end = next((messages[name].get("timestamp") for name in ends if name in messages), None)
    images = tuple(image for node_id, output in outputs.items() for image in images_of(node_id, output))
    saved = tuple(image for image in images if image.type == "output")
    files = sum(len(items) for output in outputs.values() for items in _lists(output))
    return Lookup(
        state=state,
        outputs=saved or images,
        other_outputs=files > len(images),
        error=ExecutionError.parse(error) if error else None,
        started=start / 1000 if start else None,
        seconds=(end - start) / 1000 if start and end else None,
    )


def images_of(node_id: str, output: dict[str, Any] | None) -> Iterator[ImageRef]:
    """Yield the image files among one node's outputs; savers of custom nodes use keys of their own."""
    for items in _lists(output):
        for item in items:
            if not isinstance(item, dict):
                continue
            name = str(item.get("filename", ""))
            if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
                yield ImageRef(name, item.get("subfolder", ""), item.get("type", "output"), node_id)


def _lists(output: dict[str, Any] | None) -> Iterator[list[Any]]:
    for key, items in (output or {}).items():
        if key != "animated" and isinstance(items, list):
            yield items
