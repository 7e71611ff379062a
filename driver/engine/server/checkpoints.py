"""The checkpoints that are there, and the one that is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import demo
from ..models.checkpoint import Checkpoint

Load = Callable[["Path | str"], Checkpoint]
"""Load a .safetensors file, a diffusers folder, or the built-in checkpoint by its name."""


class Checkpoints:
    """Keeps the checkpoint that was used last."""

    def __init__(self, folders: Sequence[Path], load: Load) -> None:
        self._folders = folders
        self._load = load
        self._loaded: tuple[str, Checkpoint] | None = None

    def names(self) -> list[str]:
        """Files and diffusers folders, relative to the folder where they were found."""
        found = {name for folder in self._folders for name in _names_in(folder)}
        return sorted(found | {demo.NAME})

    def get(self, name: str) -> Checkpoint:
        """Load a checkpoint, unless it is the one that is loaded."""
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None
            paths = (folder / name for folder in self._folders)
            self._loaded = name, self._load(next((path for path in paths if path.exists()), name))
        return self._loaded[1]

    def drop(self) -> None:
        """Let go of it."""
        self._loaded = None


def _names_in(root: Path) -> list[str]:
    names = []
    for folder, below, files in os.walk(root, followlinks=True):
        here = Path(folder).relative_to(root)
        if "model_index.json" in files and here != Path():
            names.append(str(here))
            below.clear()
        else:
            names += [str(here / file) for file in files if file.endswith(".safetensors")]
    return names
