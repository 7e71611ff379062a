"""From a source to a quantized .safetensors file, tensor after tensor."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from ..errors import CheckpointError
from .architectures import Architecture, recognise
from .checkpoint import Checkpoint, Source, buffer_of, name_of
from .formats import Quantized, relative_error
from .journal import CONVERSION, Journal
from .layout import lay_out
from .nearest import Map, all_cores, round_to_nearest
from .recipe import Recipe
from .report import LayerReport, Report
from .selection import WEIGHT, Layer, keep_worst, select, sizes_after
from .stream import WriteBehind, read_ahead
from .target import cannot_write, check_space, check_target, metadata_of, tensors_of

__all__ = ["Progress", "Recipe", "convert"]

AHEAD, BEHIND = 192 << 20, 96 << 20
"""Bytes that are read before they are needed, and that wait to be written."""
PIECE = 64 << 20
"""Bytes of a tensor that is only copied, at a time."""


@dataclass(frozen=True)
class Progress:
    """How far a conversion is."""

    stage: str
    """``measuring`` (unknown architectures), then ``converting``."""
    name: str
    """The tensor that was done last."""
    done: int
    """Bytes of the source, with those of an earlier call."""
    total: int


@dataclass(frozen=True)
class Job:
    """A weight to be quantized, or bytes of a tensor to be copied."""

    key: str
    """In the journal."""
    name: str
    start: int
    size: int
    layer: Layer | None = None


def convert(
    source: Source,
    target: Path,
    recipe: Recipe,
    progress: Callable[[Progress], None] = lambda progress: None,
    device: str = "cpu",
    *,
    overwrite: bool = False,
) -> Report:
    """
    Write a quantized copy of a source, which ComfyUI loads without any pack.

    The target is there as a whole or not at all. Interrupted (also by what ``progress`` raises), the same call goes on where the
    source is a file and there is no ``rounding``; else nothing is left.

    :param device: where torch computes.
    :raises CheckpointError: the source cannot be quantized.
    :raises OutputError: the target cannot be written.
    """
    began = time.monotonic()
    # A model in memory, or with a rounding of its own, is never twice the same.
    lasting = source if isinstance(source, Checkpoint) and not recipe.rounding else None
    try:
        check_target(source, target, overwrite)
        architecture, layers = select(source, name_of(source), recipe.format, recipe.keep)
        fingerprint = _fingerprint(lasting, recipe, architecture, device) if lasting else None
        with (
            torch.inference_mode(False),  # of ComfyUI, whose tensors no other thread could write into
            torch.no_grad(),
            Journal(target, fingerprint) as journal,
            all_cores() as each,
        ):
            conversion = Conversion(source, target, recipe, device, progress, journal, each)
            if architecture is None:
                layers = conversion.measure(layers)
            errors, converted = conversion.write(layers)
    except OSError as error:
        raise cannot_write(target, error, goes_on=lasting is not None) from error
    after = sizes_after(layers, recipe.format)
    return Report(
        target=target,
        architecture=architecture.name if architecture else None,
        format=recipe.format.name,
        before=sum(info.nbytes for info in source.names.values()),
        after=target.stat().st_size,
        layers=[
            LayerReport(
                layer.name,
                recipe.config(layer)["format"] if layer.name in after else None,
                layer.why_kept,
                errors.get(layer.name),
                layer.info.nbytes,
                after.get(layer.name, layer.info.nbytes),
            )
            for layer in layers
        ],
        seconds=time.monotonic() - began,
        converted=converted,
        whole=not all(name.startswith(recognise(source.names)[1]) for name in source.names),
    )


@dataclass(frozen=True)
class Conversion:
    """The passes over a source."""

    source: Source
    target: Path
    recipe: Recipe
    device: str
    progress: Callable[[Progress], None]
    journal: Journal
    each: Map

    def measure(self, layers: list[Layer]) -> list[Layer]:
        """Quantize every layer to see which are the worst, and keep those."""
        after = sizes_after(layers, self.recipe.format)
        jobs = [
            Job(f"measured {layer.name}", layer.name + WEIGHT, 0, layer.info.nbytes, layer)
            for layer in layers
            if layer.name in after
        ]
        errors = self._known(jobs)
        for job, weight in self._pass("measuring", jobs):
            if job.layer:
                _, errors[job.layer.name] = self._quantize(job.layer, weight)
                self.journal.note(job.key, errors[job.layer.name])
                self.journal.flush()
        left = keep_worst(layers, errors, after, self.recipe.budget)
        if all(layer.why_kept for layer in left):
            raise CheckpointError(
                "the budget keeps every layer",
                where=name_of(self.source),
                value=self.recipe.budget,
                hint="--budget 0.1",
            )
        return left

    def write(self, layers: list[Layer]) -> tuple[dict[str, float], int]:
        """Write the target. Returns the layers' errors, and how many bytes of the source this call converted."""
        weights = {layer.name + WEIGHT: layer for layer in layers if not layer.why_kept}
        constants = {
            name: tensor
            for layer in weights.values()
            for name, tensor in self.recipe.constants(layer).items()
        }
        layout = lay_out(
            tensors_of(self.source, self.recipe, weights, constants),
            metadata_of(self.source, self.recipe, weights.values()),
        )
        jobs = list(self._jobs(weights))
        errors = self._known(jobs)
        converted = 0
        check_space(self.target.parent, layout.size - self.journal.room_taken)
        with WriteBehind(BEHIND) as behind:
            start = {0: torch.frombuffer(bytearray(layout.header), dtype=torch.uint8)}
            start |= {layout.places[name]: tensor for name, tensor in constants.items()}
            behind.submit(0, self._put, start)
            for job, data in self._pass("converting", jobs):
                converted += job.size
                if job.layer is None:
                    behind.submit(job.size, self._put, {layout.places[job.name] + job.start: data}, job)
                    continue
                quantized, error = self._quantize(job.layer, data)
                errors[job.layer.name] = error
                parts = {
                    layout.places[f"{job.layer.name}.{part}"]: tensor
                    for part, tensor in quantized.tensors.items()
                }
                behind.submit(job.size // 2, self._put, parts, job, error)
        self.journal.finish()
        return errors, converted

    def _jobs(self, weights: Mapping[str, Layer]) -> Iterator[Job]:
        """All that goes from the source to the target; large tensors of a file that are only copied, in pieces."""
        for name, info in self.source.names.items():
            whole = name in weights or not isinstance(self.source, Checkpoint)
            step = max(info.nbytes if whole else PIECE, 1)
            for start in range(0, info.nbytes, step):
                size = min(step, info.nbytes - start)
                yield Job(f"{name} {start}", name, start, size, weights.get(name))

    def _known(self, jobs: list[Job]) -> dict[str, float]:
        """The errors of layers that an earlier call has done."""
        done = self.journal.done
        return {job.layer.name: done[job.key] or 0.0 for job in jobs if job.layer and job.key in done}

    def _pass(self, stage: str, jobs: list[Job]) -> Iterator[tuple[Job, torch.Tensor]]:
        """What is still to be done, each with what is read for it; progress is told after each."""
        todo = [job for job in jobs if job.key not in self.journal.done]
        total = sum(job.size for job in jobs)
        done = total - sum(job.size for job in todo)
        self.progress(Progress(stage, "", done, total))
        for job, data in read_ahead(todo, self._read, AHEAD):
            yield job, data
            done += job.size
            self.progress(Progress(stage, job.name, done, total))

    def _read(self, job: Job) -> torch.Tensor:
        if job.layer:
            return self.source.read(job.name).contiguous()
        if isinstance(self.source, Checkpoint):
            return self.source.read_bytes(job.name, job.start, job.start + job.size)
        return self.source.read(job.name).contiguous().reshape(-1).view(torch.uint8)

    def _quantize(self, layer: Layer, weight: torch.Tensor) -> tuple[Quantized, float]:
        if self.recipe.rounding:
            exact = weight.to(self.device, torch.float32)
            if better := self.recipe.rounding(layer.name, exact):
                found = self.recipe.format.dequantize(better, layer.info.shape)
                return better, relative_error(found, exact)
        where = f"{name_of(self.source)}, {layer.name}"
        return round_to_nearest(weight, self.recipe.format, where, self.device, self.each)

    def _put(
        self, parts: Mapping[int, torch.Tensor], job: Job | None = None, error: float | None = None
    ) -> None:
        for place, tensor in parts.items():
            stored = tensor.cpu().contiguous()
            self.journal.write(place, buffer_of(stored))
        if job:
            self.journal.note(job.key, error)


def _fingerprint(source: Checkpoint, recipe: Recipe, architecture: Architecture | None, device: str) -> str:
    """Of all that decides the bytes of the target."""
    versions = [CONVERSION, version("comfy-kitchen"), torch.__version__, device]
    file = [source.path.name, source.size, source.path.stat().st_mtime_ns, source.digest]
    chosen = [recipe.format.name, recipe.keep, recipe.budget, sorted(recipe.activation_scales.items())]
    return hashlib.sha256(json.dumps([versions, file, chosen, repr(architecture)]).encode()).hexdigest()
