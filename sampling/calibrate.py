"""A MODEL into a quantized file, by what its inputs are like while it makes the rows of a table."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comfy.sd
import folder_paths
import torch
from comfy import model_management
from comfy.utils import ProgressBar
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import CheckpointError, TableError
from ..quantization.calibration import TOKENS_PER_FEATURE, ActivationStatistics, Moments
from ..quantization.convert import Progress, Recipe, convert
from ..quantization.formats import Format, Quantized
from ..quantization.gptq import Rounding, round_by_hessian
from ..quantization.report import Report
from ..quantization.selection import select, size_after
from ..quantization.target import check_before, check_space
from ..table import Job
from .model_source import ModelSource
from .stream import RowImage, Setup, TableSampler

ENOUGH = 16
"""Rows of all kinds whose ranges hold for others; the node's default."""
PAIRS = 4
"""Rows that the quantized model makes again."""
HELD_OUT = 4
"""One in so many rows judges GPTQ's rounding; the others make it."""
MEMORY_SHARE = 4
"""Second moments take at most a quarter of the device's memory at a time."""
EVERYTHING = 1e30
"""Bytes to free: rounding needs the memory, and no model."""
WORST = 5
"""Layers that the text names."""


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A quantized file, and how it does beside its source."""

    model: Any
    """ComfyUI's MODEL, loaded from the file."""
    rows: int
    """Of the table, seen by the calibration."""
    pairs: Tensor
    """Images [2 x rows, height, width, channels]: each row by the source, then by the file."""
    conversion: Report
    psnr: dict[str, float]
    """Of the images of these rows, in dB, by the rows' file names."""
    roundings: dict[str, Rounding]
    """By layer, without the weights; none where all were rounded to the nearest."""
    silent: list[str]
    """Layers to be quantized that had no input, or only zeros."""
    few: list[str]
    """Layers that had too few tokens for GPTQ's rounding."""

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        tried = {
            name: {"nearest": each.nearest, "hessian": each.hessian, "kept": each.helps}
            for name, each in self.roundings.items()
        }
        return {
            **self.conversion.as_dict(),
            "calibration": {
                "rows": self.rows,
                "psnr_db": self.psnr,
                "held_out_error": tried,
                "too_few_tokens": self.few,
                "never_ran": self.silent,
            },
        }

    def text(self) -> str:
        """The report for people."""
        lines = [self.conversion.text()]
        if self.rows < ENOUGH:
            lines.append(f"calibrated by {self.rows} rows: {ENOUGH} of all kinds hold better for others")
        lines += [f"PSNR {value:.1f} dB: {file}" for file, value in self.psnr.items()]
        if self.roundings:
            helped = sum(each.helps for each in self.roundings.values())
            lines.append(f"Hessian rounding: kept in {helped} of {len(self.roundings)} layers")
            worst = sorted(self.roundings.items(), key=lambda item: -item[1].nearest)[:WORST]
            lines.append(
                "its weights err more one by one, and less in what the layer gives; on held-out rows, to the nearest -> Hessian:"
            )
            lines += [
                f"  {each.nearest:.2%} -> {each.hessian:.2%} {name}" + ("" if each.helps else " (not kept)")
                for name, each in worst
            ]
        if self.few:
            lines.append(f"too few tokens for Hessian rounding, more rows or steps: {', '.join(self.few)}")
        if self.silent:
            lines.append(f"never ran, so without input_scale: {', '.join(self.silent)}")
        return "\n".join(lines)


class Roundings:
    """What GPTQ made of each layer; the weights are on the disk until they are asked for."""

    def __init__(self, folder: Path, fmt: Format) -> None:
        """:param folder: for the weights, as large as the quantized model."""
        self.made: dict[str, Rounding] = {}
        self._folder = folder
        self._format = fmt

    def add(self, layer: str, weight: Tensor, moments: Moments) -> None:
        """Round a layer's weight (out features, in features)."""
        weight = weight.to(moments.training.device, torch.float32)
        rounding = round_by_hessian(self._format, weight, moments)
        if rounding.quantized:
            tensors = {name: tensor.cpu() for name, tensor in rounding.quantized.tensors.items()}
            save_file(tensors, self._file(layer))
        self.made[layer] = replace(rounding, quantized=None)

    def find(self, layer: str, weight: Tensor) -> Quantized | None:
        """For ``Recipe.rounding``: on the weight's device."""
        if layer not in self.made or not self.made[layer].helps:
            return None
        tensors = load_file(self._file(layer), device=str(weight.device))
        return Quantized(tensors, self._format.config(tuple(weight.shape)))

    def _file(self, layer: str) -> Path:
        return self._folder / f"{layer}.safetensors"


@dataclass(frozen=True)
class Calibration:
    """A model, and rows that show what its layers work on."""

    model: Any
    clip: Any
    vae: Any
    setup: Setup
    jobs: Sequence[Job]
    say: Callable[[str], None]
    """Told what is going on, in a few words."""

    def run(self, target: Path, fmt: Format, by_hessian: bool, overwrite: bool) -> Calibrated:
        """
        Make the rows, write the quantized model to ``target`` and make the first rows again.

        :param by_hessian: GPTQ's rounding where rows that were held out find it better.
        :param overwrite: replace the file ``target``.
        :raises TableError: there are too few rows.
        :raises CheckpointError: the model cannot be quantized, or all layers have too few tokens for GPTQ.
        :raises OutputError: the file cannot be written.
        """
        if len(self.jobs) < 1 + by_hessian:
            raise TableError(
                f"there are too few rows to calibrate by: {ENOUGH} of all kinds are good, Hessian rounding needs 2",
                value=len(self.jobs),
            )
        source = ModelSource(self.model)
        _, selected = select(source, "the model", fmt, ())
        size = size_after(source, selected, fmt)
        check_before(source, target, overwrite, size)
        temporary = folder_paths.get_temp_directory()
        if by_hessian:
            one_disk = Path(temporary).stat().st_dev == target.parent.stat().st_dev
            check_space(Path(temporary), size * (1 + one_disk))
        network = self.model.model.diffusion_model
        layers = {layer.name: network.get_submodule(layer.name) for layer in selected if not layer.why_kept}
        del source  # which holds the weights where they are now
        statistics = ActivationStatistics(layers)
        stream = self._stream(self.model)
        self.say(f"{len(self.jobs)} rows, for the ranges of the layers' inputs")
        with statistics.watch():
            before = self._make(stream, statistics)
        scales = statistics.scales()
        if not scales:
            raise CheckpointError(
                "none of the layers to be quantized was seen at work",
                hint="connect a loader's model, without torch.compile",
            )
        with tempfile.TemporaryDirectory(dir=temporary) as folder:
            roundings = Roundings(Path(folder), fmt)
            if by_hessian:
                self._round(stream, statistics, roundings)
            self.say(f"writing {target.name}")
            recipe = Recipe(fmt, activation_scales=scales, rounding=roundings.find)
            model_management.load_models_gpu([self.model])
            conversion = convert(
                ModelSource(self.model), target, recipe, _bar(), self._device, overwrite=overwrite
            )
        self.say(f"the first {len(before)} rows again")
        model = self._load(target)
        after = {made.job.file: made.image for made in _images(self._stream(model), self.jobs[:PAIRS])}
        first = before[self.jobs[0].file].shape
        fitting = [file for file in before if before[file].shape == first]
        return Calibrated(
            model,
            len(self.jobs),
            torch.stack([images[file] for file in fitting for images in (before, after)]),
            conversion,
            {file: _psnr(before[file], after[file]) for file in before},
            roundings.made,
            [name for name in layers if name not in scales],
            [name for name in scales if name not in roundings.made] if by_hessian else [],
        )

    @property
    def _device(self) -> str:
        """Where weights are rounded to the nearest."""
        return str(self.model.load_device) if self.model.load_device.type == "cuda" else "cpu"

    def _stream(self, model: Any) -> TableSampler:
        """Row by row: the padding of a batch would count as input."""
        return TableSampler(model, self.clip, self.vae, self.setup, 1, lambda *_: None)

    def _make(self, stream: TableSampler, statistics: ActivationStatistics) -> dict[str, Tensor]:
        """All rows, those held out last; the images of the first ones by file name."""
        first = [job.file for job in self.jobs[:PAIRS]]
        images = {}
        for held_out in (False, True):
            statistics.held_out = held_out
            jobs = [job for number, job in enumerate(self.jobs) if (number % HELD_OUT == 1) is held_out]
            for made in _images(stream, jobs):
                if made.job.file in first:
                    images[made.job.file] = made.image
        return {file: images[file] for file in first}

    def _round(self, stream: TableSampler, statistics: ActivationStatistics, roundings: Roundings) -> None:
        device = self.model.load_device
        budget = int(model_management.get_total_memory(device)) // MEMORY_SHARE
        known = statistics.well_known()
        if not known:
            raise CheckpointError(
                f"Hessian rounding needs {TOKENS_PER_FEATURE} tokens for each input feature of a layer",
                value=f"{max(statistics.tokens.values())} tokens at most",
                hint="more rows or steps, or rounding to the nearest",
            )
        passes = statistics.passes(known, budget)
        for number, layers in enumerate(passes, 1):
            self.say(f"{len(self.jobs)} rows for Hessian rounding, pass {number} of {len(passes)}")
            model_management.free_memory(budget, device)
            with statistics.collect(layers) as moments:
                self._make(stream, statistics)
            model_management.free_memory(EVERYTHING, device)
            source = ModelSource(self.model)
            for layer in layers:
                model_management.throw_exception_if_processing_interrupted()
                roundings.add(layer, source.read(f"{layer}.weight"), moments.pop(layer))
            del source

    def _load(self, target: Path) -> Any:
        model = comfy.sd.load_diffusion_model(str(target))
        if "model_sampling" in self.model.object_patches:
            model.add_object_patch("model_sampling", self.model.object_patches["model_sampling"])
        return model


def _images(stream: TableSampler, jobs: Sequence[Job]) -> Iterator[RowImage]:
    bar = ProgressBar(len(jobs))
    for made in stream.images(jobs):
        bar.update(1)
        yield made


def _psnr(found: Tensor, wanted: Tensor) -> float:
    """Peak signal-to-noise ratio of images in 0..1, in dB; 100 where they are equal."""
    return -10 * math.log10(max(float((found - wanted).square().mean()), 1e-10))


def _bar() -> Callable[[Progress], None]:
    bar = ProgressBar(1)

    def show(progress: Progress) -> None:
        model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(progress.done, progress.total)

    return show
