"""Which files the nodes may read and write: tables in the input folder, images below the output folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import folder_paths

from ..errors import OutputError, TableError
from ..table import FORMATS, check_name

EXTRA = "prompt_tables"
"""The category under which extra_model_paths.yaml may name more folders with tables."""


def table_folders() -> list[str]:
    """The input folder, then the extra ones."""
    extra = folder_paths.folder_names_and_paths.get(EXTRA)
    return [folder_paths.get_input_directory(), *(extra[0] if extra else ())]


def list_tables() -> list[str]:
    """The tables to choose from, relative to their folders, with ``/``."""
    return sorted({name for folder in table_folders() for name in _tables_in(folder)}, key=str.casefold)


def table_path(name: str) -> Path:
    """
    The file of a table's name.

    :raises TableError: there is no such file, or it lies outside of the folders (a link may lead there).
    """
    for folder in table_folders():
        path = Path(folder, name)
        if path.is_file() and folder_paths.is_within_directory(folder, str(path)):
            return path
    raise TableError(
        "there is no such table in ComfyUI's input folder",
        value=name,
        hint="drop the file onto the Prompt Table node, or choose one from its list",
    )


def output_folder(folder: str) -> Path:
    """
    The folder below ComfyUI's output folder.

    :raises FileNameError: not a relative path that every system takes.
    :raises OutputError: a link leads out of the output folder.
    """
    path = Path(folder_paths.get_output_directory(), check_name(folder))
    check_inside(path)
    return path


def check_inside(path: Path) -> None:
    """:raises OutputError: links lead the path out of ComfyUI's output folder."""
    if not folder_paths.is_within_directory(folder_paths.get_output_directory(), str(path)):
        raise OutputError("a link leads outside of ComfyUI's output folder", value=str(path.name))


def _tables_in(folder: str) -> Iterator[str]:
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if Path(name).suffix.lower() in FORMATS and not name.startswith("."):
                yield Path(where, name).relative_to(folder).as_posix()
