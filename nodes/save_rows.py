"""Save Rows: each row's image under its own name."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..errors import TableError
from .saving import RowSaver, saver_of, saving_inputs
from .sockets import CATEGORY, RowsSocket, RowsValue


class SaveRows(io.ComfyNode):
    """See the module's docstring."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The face of the node."""
        return io.Schema(
            node_id="PromptmillSaveRows",
            display_name="Save Rows",
            category=CATEGORY,
            description="Saves each image as PNG under its row's name, with its own graph and seed in it, and adds a line to "
            "manifest.jsonl. Where all of its rows are done, nothing upstream runs.",
            search_aliases=["save image", "save named", "保存行"],
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            inputs=[
                io.Image.Input("images", lazy=True),
                RowsSocket.Input("rows"),
                *saving_inputs(),
            ],
            outputs=[io.Image.Output("images", display_name="images")],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> float:
        """Never equal to the last one: the files on the disk decide."""
        return float("nan")

    @classmethod
    def check_lazy_status(cls, rows: RowsValue, **inputs: Any) -> list[str]:
        """Ask for the images only where one is still to be made."""
        return (
            ["images"]
            if inputs.get("filename_prefix")
            or _wanted(saver_of(cls.hidden, rows.folder, inputs["if_exists"]), rows)
            else []
        )

    @classmethod
    def execute(
        cls, rows: RowsValue, if_exists: str, images: Tensor | None = None, filename_prefix: str = ""
    ) -> io.NodeOutput:
        """
        Save image i as row i.

        :param images: [rows, height, width, channels] in 0..1; None where all rows are done.
        """
        saver = saver_of(cls.hidden, rows.folder, if_exists)
        files = [job.file for job in rows.jobs]
        if images is not None:
            if len(images) != len(rows.jobs):
                raise TableError(
                    f"{len(images)} images came for {len(rows.jobs)} rows",
                    hint="connect the count of Encode Rows with the batch size of the latent",
                )
            if filename_prefix:
                return io.NodeOutput(
                    images, ui={"images": saver.save_under(filename_prefix, rows.jobs, images)}
                )
            files = [
                saver.save(job, image).file if saver.is_wanted(job) else job.file
                for job, image in zip(rows.jobs, images, strict=True)
            ]
        else:
            for job in rows.jobs:
                saver.adopt(job)
        shown: dict[str, Any] = {"images": [saver.shown(file) for file in files]}
        if images is None:
            return io.NodeOutput(ExecutionBlocker(None), ui=shown)
        return io.NodeOutput(images, ui=shown)


def _wanted(saver: RowSaver, rows: RowsValue) -> bool:
    return any(saver.is_wanted(job) for job in rows.jobs)
