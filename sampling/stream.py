"""A whole table as a stream of images: encoded ahead in chunks, sampled in batches, decoded one by one.

On a card that cannot hold both, text encoder and diffusion model push each other out of memory at every change. So the
prompts of about 64 rows are encoded, then their batches are sampled: the change costs once a chunk, and the chunk's
conditionings (up to 2 GB for Flux.2, 0.2 GB for most models) are all that is held.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import torch
from comfy import model_management, sample, samplers
from torch import Tensor

from ..errors import SamplingError
from ..table import Job
from .encode import Encoder
from .guider import RowGuider
from .noise import RowNoise

CHUNK = 64

Watch = Callable[[float, Tensor], None]
"""Called after each step with how many rows' worth of the batch is through, and the denoised latents so far."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How rows are sampled; size (in pixels), steps and cfg are for those that give none."""

    sampler: str
    scheduler: str
    steps: int
    cfg: float
    width: int
    height: int


@dataclass(frozen=True, slots=True, eq=False)
class RowImage:
    """A finished image: [height, width, channels] in 0..1, on the CPU. ``seconds`` is its share of its batch."""

    job: Job
    image: Tensor
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class EncodedRow:
    """A job with all that its sampling needs."""

    job: Job
    positive: list[Any]
    negative: list[Any]
    width: int
    height: int
    steps: int
    cfg: float

    @property
    def agreement(self) -> tuple[int, int, int, float]:
        """What the rows of a batch must have in common."""
        return self.width, self.height, self.steps, self.cfg

    @property
    def lengths(self) -> tuple[int, int]:
        """Tokens of the prompts: rows of equal lengths share a forward."""
        return self.positive[0][0].shape[1], self.negative[0][0].shape[1]


class TableSampler:
    """Samples rows in batches, each exactly as if it were made alone."""

    def __init__(
        self, model: Any, clip: Any, vae: Any, setup: Setup, rows_per_batch: int, watch: Watch
    ) -> None:
        """
        :param model: ComfyUI's MODEL; ``clip`` and ``vae`` its CLIP and VAE.
        :param rows_per_batch: at most; halved where memory does not suffice.
        """
        self.rows_per_batch = rows_per_batch
        self._model = model
        self._encode = Encoder(clip)
        self._vae = vae
        self._setup = setup
        self._watch = watch

    def images(self, jobs: Iterable[Job]) -> Iterator[RowImage]:
        """
        The images of the jobs, a chunk after the other; in a chunk, those of equal size, steps and cfg come together.

        :raises SamplingError: memory does not suffice for one row, or the sampler cannot be exact.
        """
        jobs = iter(jobs)
        size = self.rows_per_batch * max(1, CHUNK // self.rows_per_batch)
        while chunk := [self._encoded(job) for job in islice(jobs, size)]:
            chunk.sort(key=lambda row: (row.agreement, row.lengths))
            for _, agreeing in groupby(chunk, key=lambda row: row.agreement):
                rows = list(agreeing)
                while rows:
                    batch = rows[: self.rows_per_batch]
                    began = time.monotonic()
                    latents = self._sampled(batch)
                    if latents is None:
                        self._halve(batch)
                        continue
                    yield from self._decoded(batch, latents, time.monotonic() - began)
                    del rows[: len(batch)]
            chunk.clear()  # before the next one is encoded

    def _encoded(self, job: Job) -> EncodedRow:
        model_management.throw_exception_if_processing_interrupted()
        own = job.settings
        return EncodedRow(
            job,
            self._encode(job.prompt),
            self._encode(job.negative),
            own.width or self._setup.width,
            own.height or self._setup.height,
            own.steps or self._setup.steps,
            self._setup.cfg if own.cfg is None else own.cfg,
        )

    def _sampled(self, batch: list[EncodedRow]) -> Tensor | None:
        """The latents of a batch; None where memory did not suffice."""
        try:
            return self._sample(batch)
        except Exception as error:
            model_management.raise_non_oom(error)
        return None

    def _sample(self, batch: list[EncodedRow]) -> Tensor:
        first, model = batch[0], self._model
        seeds = [row.job.seed for row in batch]
        schedule = samplers.KSampler(
            model, first.steps, model.load_device, self._setup.sampler, self._setup.scheduler
        )
        empty = torch.zeros(
            [len(batch), 4, first.height // 8, first.width // 8],
            device=model_management.intermediate_device(),
            dtype=model_management.intermediate_dtype(),
        )
        latents = sample.fix_empty_latent_channels(model, empty, 8)
        guider = RowGuider(
            model, [row.positive for row in batch], [row.negative for row in batch], first.cfg, seeds
        )

        def callback(step: int, x0: Tensor, x: Tensor, steps: int) -> None:
            model_management.throw_exception_if_processing_interrupted()
            self._watch(len(batch) * (step + 1) / steps, x0)

        found: Tensor = guider.sample(
            RowNoise(seeds).generate_noise({"samples": latents}),
            latents,
            samplers.sampler_object(self._setup.sampler),
            schedule.sigmas,
            callback=callback,
            disable_pbar=True,
            seed=seeds[0],
        )
        return found.to(model_management.intermediate_device(), model_management.intermediate_dtype())

    def _halve(self, batch: list[EncodedRow]) -> None:
        model_management.soft_empty_cache()
        row = batch[0]
        if len(batch) == 1:
            raise SamplingError(
                "the memory does not suffice for one image of this size",
                where=f"row {row.job.row.number}",
                value=f"{row.width} x {row.height}",
                hint="a smaller width and height, a quantized model, or start ComfyUI with --novram",
            )
        self.rows_per_batch = len(batch) // 2
        logging.warning(
            "promptmill: out of memory with %d rows in a batch; going on with %d",
            len(batch),
            self.rows_per_batch,
        )

    def _decoded(self, batch: list[EncodedRow], latents: Tensor, seconds: float) -> Iterator[RowImage]:
        """One image at a time: that takes memory for one, and a batch would differ by rounding (1e-6) and be no faster."""
        for number, row in enumerate(batch):
            model_management.throw_exception_if_processing_interrupted()
            began = time.monotonic()
            image = self._vae.decode(latents[number : number + 1]).flatten(end_dim=-4)[0].to("cpu")
            yield RowImage(row.job, image, seconds / len(batch) + time.monotonic() - began)
