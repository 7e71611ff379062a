"""The command that converts a checkpoint."""

from __future__ import annotations

import json as jsons
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ...errors import CheckpointError, OutputError
from .app import command
from .options import JsonOption
from .output import Output

if TYPE_CHECKING:
    from ...quantization.convert import Progress

PACKAGES = ("torch", "safetensors", "comfy_kitchen")


@command
def quantize(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A .safetensors file in 16 or 32 bits.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The .safetensors file to write.")],
    format: Annotated[
        Literal["fp8", "int8", "nvfp4"],
        typer.Option("--format", help="Of the linear layers' weights."),
    ],
    keep: Annotated[
        list[str],
        typer.Option("--keep", metavar="REGEX", help="Keep layers in whose name this is found; repeat."),
    ] = [],  # noqa: B006
    budget: Annotated[
        float,
        typer.Option(
            "--budget",
            help="Of an unknown architecture: how much larger the file may be for the worst layers to be kept.",
        ),
    ] = 0.1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DST if it exists.")] = False,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write the report of every layer as JSON.")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where torch computes.")
    ] = "auto",
    json: JsonOption = False,
) -> int:
    """Convert a model's BF16 file to FP8, INT8 or NVFP4 for ComfyUI. After an interruption, the same command goes on."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise CheckpointError(
            f"quantization is not installed: there is no {', '.join(missing)}",
            hint='pip install ".[driver,quantization]" in the folder of promptmill',
        )
    import torch

    from ...quantization.checkpoint import Checkpoint
    from ...quantization.convert import Recipe, convert
    from ...quantization.formats import FORMATS

    output = Output(json=json)
    found = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" != found:
        raise CheckpointError(
            "PyTorch finds no CUDA device here", where="--device", value=device, hint="--device cpu"
        )
    if report and (report.is_dir() or not os.access(report.parent, os.W_OK)):
        raise OutputError(
            "the report cannot be written", where=str(report), hint="name a file in a folder that is there"
        )
    if report and report.resolve() in (source.resolve(), target.resolve()):
        raise OutputError(
            "the report would replace the model",
            where=str(report),
            hint=f"--report {target.with_suffix('.json')}",
        )
    recipe = Recipe(FORMATS[format], keep=tuple(keep), budget=budget)
    with progress(output) as show:
        made = convert(
            Checkpoint(source),
            target,
            recipe,
            show,
            found if device == "auto" else device,
            overwrite=overwrite,
        )
    if report:
        report.write_text(jsons.dumps(made.as_dict(), indent=1), encoding="utf-8")
    output.result(made.text(), made.as_dict())
    return 0


@contextmanager
def progress(output: Output) -> Iterator[Callable[[Progress], None]]:
    """Give what shows progress: a bar on a terminal, a line for every tenth elsewhere."""
    if not sys.stderr.isatty():
        begun: dict[str, tuple[float, int]] = {}
        told: set[tuple[str, int]] = set()

        def line(now: Progress) -> None:
            began, at = begun.setdefault(now.stage, (time.monotonic(), now.done))
            tenth = 10 * now.done // max(now.total, 1)
            if (now.stage, tenth) in told:
                return
            told.add((now.stage, tenth))
            rest = (time.monotonic() - began) * (now.total - now.done) / max(now.done - at, 1)
            output.talk(f"{now.stage}: {tenth * 10} %" + (f", {rest:.0f} s left" if now.done > at else ""))

        yield line
        return

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks = {}

        def draw(now: Progress) -> None:
            if now.stage not in tasks:
                tasks[now.stage] = bar.add_task(now.stage, total=now.total, completed=now.done)
            bar.update(tasks[now.stage], completed=now.done)

        yield draw
