"""Which file an image becomes: the pattern, what it may give, and that no two images get the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath

from ..errors import FileNameError
from .duplicates import Duplicates
from .names import check_name, name_key
from .table import Table

OWN_FILES = (
    "recipe.toml",
    "workflow.json",
    "workflow.png",
    "manifest.csv",
    "manifest.jsonl",
    "index.html",
    "ledger.sqlite",
)
OWN_FOLDERS = (".promptmill", "superseded", "thumbnails")
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif"})
LINES_SHOWN = 10
ANOTHER_PATTERN = "another pattern of the names, such as {id}_{variant}.png"


def default_pattern(table: Table, variants: int) -> str:
    """The table's own file names, where it has any; else ``{id}_{variant}.png``, which cannot collide."""
    own = table.known.get("filename")
    if own is None and not {"id", "sku"} & table.known.keys():
        own = next((column for column in table.columns if column.lower() == "name"), None)
    if own is None:
        return "{id}_{variant}.png"
    return f"{{{own}}}" if variants == 1 else f"{{{own}}}_{{variant}}"


def image_name(name: str, *, png: bool) -> str:
    """
    A filled pattern as the path of an image inside the output folder; ``.png`` is added where there is no suffix.

    :param png: whether nothing but PNG can be written.
    :raises FileNameError: blank, kept for the run's own files, outside of the folder, or refused by some system.
    """
    path = PurePosixPath(name)
    if not path.name or path.name.startswith("."):
        raise FileNameError("the file name is blank", value=name, hint="is a column of the pattern empty?")
    if path.parts[0].casefold() in OWN_FOLDERS or name.casefold() in OWN_FILES:
        raise FileNameError("this name is kept for the run's own files", value=name, hint=ANOTHER_PATTERN)
    if any(PurePosixPath(part).suffix.lower() in IMAGE_SUFFIXES for part in path.parts[:-1]):
        raise FileNameError("a folder may not be called like an image", value=name, hint=ANOTHER_PATTERN)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        name, suffix = name + ".png", ".png"
    if suffix != ".png" and png:
        raise FileNameError(
            "images are saved as PNG and kept as they are", value=name, hint="end the pattern with .png"
        )
    return check_name(name)


class Names:
    """Every name that was given, in 8 bytes each, to find those that mean the same file on some system."""

    def __init__(self) -> None:
        self._seen = Duplicates()

    def add(self, name: str) -> None:
        """Count the name in."""
        self._seen.add(name_key(name))

    def collisions(
        self, table: str, again: Callable[[], Iterable[tuple[str, int]]]
    ) -> Iterator[FileNameError]:
        """
        What was given twice, with its lines.

        :param again: goes over all names and their lines once more; called only where there are suspects.
        """
        suspects = self._seen.suspects()
        if not suspects:
            return
        lines: dict[str, list[int]] = {}
        shown: dict[str, str] = {}
        for name, line in again():
            key = name_key(name)
            if Duplicates.of(key) in suspects:
                lines.setdefault(key, []).append(line)
                shown.setdefault(key, name)
        for key, found in lines.items():
            if len(found) > 1:
                yield FileNameError(
                    "several images would have the same file name",
                    where=f"{table} lines {', '.join(map(str, found[:LINES_SHOWN]))}",
                    value=shown[key],
                    hint=ANOTHER_PATTERN,
                )
