"""An image of a row into its file: named, stamped, whole, and in the manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from enum import Enum
from functools import cached_property
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import folder_paths
import numpy as np
from comfy.cli_args import args
from comfy_api.latest import io
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..errors import OutputError, SamplingError
from ..files import SUPERSEDED, put_in_place, set_aside, stage
from ..table import KEYWORD, MANIFEST, Entry, Job, append_entry, is_done, read_entries, stamp
from .folders import check_inside, output_folder
from .row_graph import Graphs


class IfExists(str, Enum):
    """What to do where an image's file is there already."""

    SKIP = "skip"
    """The same row's image stays; another file moves to superseded/ when the new image comes."""
    NUMBER = "number"
    """The new image gets a number: mug_2.png."""
    OVERWRITE = "overwrite"
    """The new image takes its place."""


class RowSaver:
    """Saves the images of rows into one folder."""

    def __init__(self, folder: str, if_exists: IfExists, graphs: Graphs) -> None:
        """
        :param folder: below ComfyUI's output folder.
        :raises PromptmillError: see ``output_folder``.
        """
        self.out = output_folder(folder)
        for own in (MANIFEST, SUPERSEDED):
            check_inside(self.out / own)
        self._folder = folder
        self._if_exists = if_exists
        self._graphs = graphs

    def is_wanted(self, job: Job) -> bool:
        """Whether the job's image is still to be made."""
        return self._if_exists is not IfExists.SKIP or not is_done(job, self.out)

    def save(self, job: Job, image: Tensor, seconds: float | None = None) -> Entry:
        """
        :param image: [height, width, channels] in 0..1, on any device.
        :param seconds: how long it took to make.
        :raises OutputError: the folder cannot be written, or the disk is full; then nothing is half written. Or the
            file would lie outside of ComfyUI's output folder.
        :raises SamplingError: the image holds no numbers.
        """
        name = self._free_name(job.file) if self._if_exists is IfExists.NUMBER else job.file
        final = self.out / name
        check_inside(final)
        data = self._png(job, image)
        try:
            part = stage(final, data)
            if self._if_exists is IfExists.SKIP and final.exists():
                set_aside(self.out, name)
            put_in_place(part, final)
            return self._record(job, name, data, (image.shape[1], image.shape[0]), seconds)
        except OSError as error:
            raise _not_saved(name, error) from error

    def adopt(self, job: Job) -> None:
        """
        Add the manifest's line of a done image, where a crash left it without one.

        :raises OSError: the image cannot be read, or the manifest not be written.
        """
        if _listed_as(job.file, job) not in self._listed:
            data = (self.out / job.file).read_bytes()
            with Image.open(BytesIO(data)) as image:
                self._record(job, job.file, data, image.size, None)

    @cached_property
    def _listed(self) -> set[int]:
        return {_listed_as(entry.file, entry) for entry in read_entries(self.out)}

    def _record(
        self, job: Job, name: str, data: bytes, size: tuple[int, int], seconds: float | None
    ) -> Entry:
        entry = Entry(
            id=job.row.id,
            row=job.row.number,
            variant=job.variant,
            index=1,
            file=name,
            sha256=hashlib.sha256(data).hexdigest(),
            prompt=job.prompt,
            negative=job.negative,
            seed=job.seed,
            width=size[0],
            height=size[1],
            server="",
            seconds=seconds,
            attempts=1,
            status="done",
            error="",
            thumbnail="",
        )
        append_entry(self.out, entry)
        return entry

    def save_under(self, prefix: str, jobs: Sequence[Job], images: Tensor) -> list[dict[str, str]]:
        """Save under a prefix and a counter, as core's Save Image does; returns where the canvas finds them."""
        base = folder_paths.get_output_directory()
        width, height = images.shape[2], images.shape[1]
        folder, stem, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, base, width, height)
        shown = []
        for number, (job, image) in enumerate(zip(jobs, images, strict=True), counter):
            final = Path(folder, f"{stem}_{number:05}_.png")
            try:
                put_in_place(stage(final, self._png(job, image)), final)
            except OSError as error:
                raise _not_saved(final.name, error) from error
            shown.append({"filename": final.name, "subfolder": subfolder, "type": "output"})
        return shown

    def shown(self, file: str) -> dict[str, str]:
        """Where the canvas finds the image."""
        path = PurePosixPath(self._folder, file)
        return {"filename": path.name, "subfolder": str(path.parent), "type": "output"}

    def _png(self, job: Job, image: Tensor) -> bytes:
        if not image.isfinite().all():
            raise SamplingError(
                "the image holds no numbers (NaN), as a model or VAE in a precision that is too small gives",
                where=f"row {job.row.number}",
                hint="another VAE, or start ComfyUI with --fp32-vae",
            )
        pixels = (image.float().clamp(0, 1) * 255).to("cpu").numpy().astype(np.uint8)
        # the driver's own stamp, where it sent one, goes before that of the one row that it pasted
        carried = {KEYWORD: stamp(job), **({} if args.disable_metadata else self._graphs.of(job))}
        chunks = PngInfo()
        for keyword, content in carried.items():
            chunks.add_text(keyword, json.dumps(content))
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", pnginfo=chunks, compress_level=4)
        return buffer.getvalue()

    def _free_name(self, name: str) -> str:
        path, number = Path(name), 1
        while (self.out / name).exists():
            number += 1
            name = path.with_name(f"{path.stem}_{number}{path.suffix}").as_posix()
        return name


def _listed_as(file: str, made: Job | Entry) -> int:
    return hash((file, made.seed, made.prompt, made.negative))


def saving_inputs() -> list[Any]:
    """The inputs that all saving nodes share."""
    return [
        io.Combo.Input(
            "if_exists",
            options=IfExists,
            default=IfExists.SKIP,
            tooltip="skip: a row that is done is not made again; number: mug_2.png; overwrite: replace the file.",
        ),
        io.String.Input(
            "filename_prefix",
            default="",
            optional=True,
            advanced=True,
            tooltip="Save as Save Image would, under this prefix: promptmill's driver sets it. Blank: the rows' names.",
        ),
    ]


def saver_of(hidden: Any, folder: str, if_exists: str) -> RowSaver:
    """The saver of a node, by what ComfyUI hands to it hidden."""
    return RowSaver(
        folder, IfExists(if_exists), Graphs(hidden.prompt, hidden.extra_pnginfo, hidden.unique_id)
    )


def _not_saved(name: str, error: OSError) -> OutputError:
    return OutputError(
        "the image could not be saved",
        where=name,
        value=error.strerror,
        hint="make room or look at the folder, and queue it again: what is made stays",
    )
