"""Calibrate Model: a quantized file that was measured on a table's own prompts."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..errors import FileNameError, OutputError
from ..files import put_in_place, stage
from ..sampling import Setup
from ..table import check_name
from .progress_text import say
from .setup_inputs import setup_inputs
from .sockets import CATEGORY, PromptTableValue, TableSocket

FOLDER = "diffusion_models"
SUFFIX = ".safetensors"


class CalibrateModel(io.ComfyNode):
    """See the module's docstring."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The face of the node."""
        return io.Schema(
            node_id="PromptmillCalibrateModel",
            display_name="Calibrate Model",
            category=CATEGORY,
            description="Runs prompts of a table through a model in high precision, measures what its layers work on, and writes "
            "it as FP8 or INT8 by that: a file for Load Diffusion Model, with its LoRAs in it. Shows images before and after.",
            search_aliases=["quantize", "fp8", "int8", "gptq", "量化", "校准"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Model.Input("model", tooltip="Of the BF16 or FP16 file."),
                io.Clip.Input("clip"),
                io.Vae.Input("vae"),
                TableSocket.Input("table", tooltip="Prompts like those that the model will be used for."),
                io.Int.Input(
                    "rows",
                    default=16,
                    min=1,
                    max=1024,
                    tooltip="How many rows of the table, from the first on.",
                ),
                io.Combo.Input("format", options=["fp8", "int8"]),
                io.Combo.Input(
                    "rounding",
                    options=["nearest", "hessian"],
                    tooltip="hessian: GPTQ, kept where it is better on rows held out. The rows are run once more for as many "
                    "layers as fit into a quarter of the memory.",
                ),
                *setup_inputs(),
                io.String.Input(
                    "file_name", default="calibrated", tooltip=f"Below models/{FOLDER}; / makes a folder."
                ),
                io.Boolean.Input("overwrite", default=False, tooltip="Replace a file of this name."),
            ],
            outputs=[
                io.Model.Output("quantized", display_name="quantized", tooltip="Loaded from the new file."),
                io.Image.Output(
                    "images",
                    display_name="images",
                    tooltip="The first rows, each before and after, from the same seed.",
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="Also beside the file, as JSON, with every layer.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        table: PromptTableValue,
        rows: int,
        format: str,
        rounding: str,
        steps: int,
        cfg: float,
        sampler: str,
        scheduler: str,
        width: int,
        height: int,
        file_name: str,
        overwrite: bool,
    ) -> io.NodeOutput:
        """
        Write the file and its report.

        :raises OutputError: the file is there already, or is the one that the model came from.
        """
        from ..quantization.formats import FORMATS
        from ..sampling.calibrate import Calibration

        target = model_file(file_name, overwrite, model)
        jobs = list(islice(table.jobs, rows))
        setup = Setup(sampler, scheduler, steps, cfg, width, height)
        calibration = Calibration(model, clip, vae, setup, jobs, cls._say)
        found = calibration.run(target, FORMATS[format], rounding == "hessian", overwrite)
        report = target.with_suffix(".json")
        put_in_place(stage(report, json.dumps(found.as_dict(), indent=1).encode()), report)
        text = found.text()
        return io.NodeOutput(found.model, found.pairs, text, ui={"text": [text]})

    @classmethod
    def _say(cls, text: str) -> None:
        say(text, cls.hidden.unique_id)


def model_file(name: str, overwrite: bool, model: Any) -> Path:
    """
    Where a new file of diffusion models goes.

    :param model: must not be loaded from there.
    :raises FileNameError: not a relative path that every system takes.
    :raises OutputError: it leads elsewhere, or stands in the way.
    """
    folders = folder_paths.get_folder_paths(FOLDER)
    folder = next((each for each in folders if Path(each).name == FOLDER), folders[0])
    try:
        path = Path(folder, check_name(name.removesuffix(SUFFIX)) + SUFFIX)
    except FileNameError as error:
        raise FileNameError(
            error.message,
            where="file_name",
            value=name,
            hint=f"a name below models/{FOLDER}, such as calibrated",
        ) from error
    if not folder_paths.is_within_directory(folder, str(path)):
        raise OutputError(f"a link leads outside of models/{FOLDER}", value=name)
    taken = next((each for each in (path, path.with_suffix(".json")) if each.exists()), None)
    if taken and not overwrite:
        raise OutputError(
            "there is a file of this name in models/diffusion_models",
            value=taken.name,
            hint="another file_name, or switch overwrite on",
        )
    source = Path(model.cached_patcher_init[1][0] if model.cached_patcher_init else "")
    if path.exists() and source.exists() and path.samefile(source):
        raise OutputError(
            "the model was loaded from this file", where="file_name", value=name, hint="another file_name"
        )
    return path
