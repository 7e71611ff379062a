"""Sample Table: a whole table of prompts into saved images, in one node."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..files import remove_parts
from ..sampling import Setup, TableSampler
from ..table import MANIFEST, Job
from .save_ahead import SaveAhead
from .saving import saver_of, saving_inputs
from .setup_inputs import setup_inputs
from .sockets import CATEGORY, PromptTableValue, TableSocket
from .table_progress import TableProgress

SHOWN = 64
"""How many images the node shows at the end."""


class SampleTable(io.ComfyNode):
    """See the module's docstring."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The face of the node."""
        return io.Schema(
            node_id="PromptmillSampleTable",
            display_name="Sample Table",
            category=CATEGORY,
            description="Makes the images of a whole prompt table, several rows at a time, each exactly as if it were made alone, "
            "and saves each one as it is made. Queue it again after a stop: it goes on with what is missing.",
            search_aliases=["batch prompts", "csv to images", "run table", "批量生成", "表格采样"],
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            inputs=[
                io.Model.Input("model", lazy=True),
                io.Clip.Input("clip", lazy=True),
                io.Vae.Input("vae", lazy=True),
                TableSocket.Input(
                    "table", tooltip="Prompts, negatives, seeds, file names and folder come from it."
                ),
                *setup_inputs(),
                io.Int.Input(
                    "rows_per_batch",
                    default=4,
                    min=1,
                    max=64,
                    tooltip="How many rows are sampled at a time; rows of another size, steps or cfg wait for the next batch. "
                    "Halved when memory does not suffice.",
                ),
                *saving_inputs(),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="The last ones, a batch at most."),
                io.String.Output(
                    "manifest", display_name="manifest", tooltip="Its path below ComfyUI's output folder."
                ),
                io.Int.Output("done", display_name="done", tooltip="How many images are there now."),
                io.Int.Output("made", display_name="made", tooltip="How many of them were made just now."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> float:
        """Never equal to the last one: the files on the disk decide."""
        return float("nan")

    @classmethod
    def check_lazy_status(
        cls, table: PromptTableValue, if_exists: str, filename_prefix: str = "", **inputs: Any
    ) -> list[str]:
        """Ask for the models only where an image is still to be made."""
        saver = saver_of(cls.hidden, table.folder, if_exists)
        if filename_prefix or any(saver.is_wanted(job) for job in table.jobs):
            return ["model", "clip", "vae"]
        return []

    @classmethod
    def execute(
        cls,
        table: PromptTableValue,
        steps: int,
        cfg: float,
        sampler: str,
        scheduler: str,
        width: int,
        height: int,
        rows_per_batch: int,
        if_exists: str,
        filename_prefix: str = "",
        model: Any = None,
        clip: Any = None,
        vae: Any = None,
    ) -> io.NodeOutput:
        """
        Make what is missing.

        :raises OutputError: an image could not be saved; those before it are in their place.
        """
        saver = saver_of(cls.hidden, table.folder, if_exists)
        remove_parts(saver.out)
        progress = TableProgress(cls.hidden.unique_id, table.count, model)
        shown: deque[dict[str, str]] = deque(maxlen=None if filename_prefix else SHOWN)
        last: deque[Tensor] = deque(maxlen=rows_per_batch)

        def wanted() -> Iterator[Job]:
            for job in table.jobs:
                if filename_prefix or saver.is_wanted(job):
                    yield job
                else:
                    saver.adopt(job)
                    progress.skip()
                    shown.append(saver.shown(job.file))

        def save(job: Job, image: Tensor, seconds: float) -> None:
            if filename_prefix:
                shown.extend(saver.save_under(filename_prefix, [job], image[None]))
            else:
                shown.append(saver.shown(saver.save(job, image, seconds).file))

        if model is None:
            deque(wanted(), 0)
        else:
            setup = Setup(sampler, scheduler, steps, cfg, width, height)
            stream = TableSampler(model, clip, vae, setup, rows_per_batch, progress.step)
            with SaveAhead(save) as behind:
                for made in stream.images(wanted()):
                    behind.put(made.job, made.image, made.seconds)
                    progress.finish(made.image)
                    if last and last[0].shape != made.image.shape:
                        last.clear()
                    last.append(made.image)
        return io.NodeOutput(
            torch.stack(list(last)) if last else ExecutionBlocker(None),
            f"{table.folder}/{MANIFEST}",
            progress.done,
            progress.made,
            ui={"images": list(shown)},
        )
