"""The server's files: pictures named and annotated as SaveImage does, and paths that stay in their folder."""

from __future__ import annotations

import io
import json
import mimetypes
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image


def png(image: Image.Image, metadata: Mapping[str, Any], compress_level: int) -> bytes:
    """Encode with one tEXt chunk of JSON for each key."""
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for name, value in metadata.items():
        chunks.add_text(name, json.dumps(value))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=chunks, compress_level=compress_level)
    return buffer.getvalue()


def is_inside(root: Path, path: Path) -> bool:
    """Tell whether a path stays in a folder, links followed."""
    return path.resolve().is_relative_to(root.resolve())


def input_images(folder: Path) -> list[str]:
    """What LoadImage offers."""
    names = (path.name for path in folder.iterdir() if path.is_file())
    return sorted(name for name in names if (mimetypes.guess_type(name)[0] or "").startswith("image/"))


def annotated(folders: Mapping[str, Path], name: str) -> Path:
    """
    The file that LoadImage means by ``name`` or ``name [output]``.

    :raises ValueError: it is outside its folder.
    """
    stem, _, kind = name.rpartition(" [")
    known = kind.endswith("]") and kind[:-1] in folders
    root = folders[kind[:-1] if known else "input"]
    path = root / (stem if known else name)
    if not is_inside(root, path):
        raise ValueError(f"Invalid file path: {name!r}")
    return path


class Folder:
    """
    An output folder in which files are numbered: ``{prefix}_00001_.png``.

    The numbers in use are read once for each subfolder, where SaveImage lists it for every image.

    :param exclusive: take the next number where a file came to be since. ComfyUI does not: two servers with one
        folder and one prefix overwrite each other.
    """

    def __init__(self, root: Path, *, exclusive: bool) -> None:
        self.root = root
        self._mode = "xb" if exclusive else "wb"
        self._last: dict[tuple[str, str], int] = {}
        self._listed: set[str] = set()

    def save(
        self, prefix: str, data: bytes, index: int = 0, size: tuple[int, int] = (0, 0)
    ) -> tuple[str, str]:
        """
        Write the next file of a prefix; return its name and its subfolder.

        :param index: the picture's number in its batch, for %batch_num%.
        :param size: its width and height, for %width% and %height%.
        :raises ValueError: the prefix leads out of the folder.
        """
        subfolder, name = os.path.split(os.path.normpath(_filled(prefix, size)))
        if not is_inside(self.root, self.root / subfolder / name):
            raise ValueError("**** ERROR: Saving image outside the output folder is not allowed.")
        (self.root / subfolder).mkdir(parents=True, exist_ok=True)
        self._list(subfolder)
        while True:
            number = self._last[subfolder, name] = self._last.get((subfolder, name), 0) + 1
            file = f"{name}_{number:05}_.png".replace("%batch_num%", str(index))
            try:
                with (self.root / subfolder / file).open(self._mode) as out:
                    out.write(data)
            except FileExistsError:
                continue
            return file, subfolder

    def _list(self, subfolder: str) -> None:
        if subfolder in self._listed:
            return
        self._listed.add(subfolder)
        for file in (self.root / subfolder).glob("*_.png"):
            name, _, number = file.name.removesuffix("_.png").rpartition("_")
            if number.isdecimal():
                self._last[subfolder, name] = max(int(number), self._last.get((subfolder, name), 0))


def _filled(prefix: str, size: tuple[int, int]) -> str:
    if "%" not in prefix:
        return prefix
    words = {"width": str(size[0]), "height": str(size[1])}
    times = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S"}
    words |= {word: time.strftime(code) for word, code in times.items()}
    for word, text in words.items():
        prefix = prefix.replace(f"%{word}%", text)
    return prefix
