"""What a node may ask of the server that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ...protocol.files import Folder
from ..models.checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor


class Context(Protocol):
    """The prompt that is running, and the server's files."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What savers embed in a picture: the prompt, and what came along with it."""

    @property
    def savers(self) -> Mapping[str, Folder]:
        """The folders "output" and "temp"."""

    def checkpoint(self, name: str) -> Checkpoint:
        """Load a checkpoint, or give the one that is loaded."""

    def input_file(self, name: str) -> Path:
        """Where a file of LoadImage is."""

    def on_step(self, number: int, steps: int, paint: Callable[[], Tensor]) -> None:
        """Tell of a sampling step; raises where the prompt was cancelled."""
