"""A loaded pipeline as MODEL, CLIP and VAE."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .....errors import CheckpointError
from ..checkpoint import Conditioning, OnStep, Settings
from .families import Encoded, Family
from .schedule import schedule

ENCODINGS = 64
"""Prompts kept encoded: at most about 3 MB each in bf16."""
PREVIEW = 32
"""The longer side of the latents that a preview decodes: 256 pixels."""


class PipelineTextEncoder:
    """CLIP: each text is encoded once while it is among the last 64."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._cached = lru_cache(maxsize=ENCODINGS)(self._encode)

    def encode(self, text: str) -> Encoded:
        """
        Encode one prompt.

        :raises CheckpointError: the pipeline would cut the prompt.
        """
        return self._cached(text)

    @torch.no_grad()
    def _encode(self, text: str) -> Encoded:
        tokens, limit = self._family.count(text)
        if tokens > limit:
            raise CheckpointError(
                f"the prompt has {tokens} tokens, and this model reads {limit}",
                where="prompt",
                value=text,
                hint="shorten the prompt",
            )
        return self._family.encode(text)


class PipelineAutoencoder:
    """VAE: row by row, so that a batch needs no more memory than one picture."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """[B, H, W, 3] in 0..1 to the mode of the latents [B, C, H / 8, W / 8]; sides are cut to a multiple of 8."""
        height, width = (side - side % 8 for side in pixels.shape[1:3])
        rows = pixels[:, :height, :width, :3].movedim(-1, 1).to(self._vae.device, self._vae.dtype) * 2 - 1
        return torch.cat([self._vae.encode(row[None]).latent_dist.mode() for row in rows]).float().cpu()

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """
        Latents [B, C, h, w] to float32 pixels [B, 8 h, 8 w, 3], 0..1 but not cut off.

        :raises CheckpointError: latents of another autoencoder.
        """
        _check_channels(latent, self._vae.config.latent_channels)
        rows = latent.to(self._vae.device, self._vae.dtype)
        pixels = torch.cat([self._vae.decode(row[None]).sample for row in rows])
        return (pixels.float() / 2 + 0.5).movedim(1, -1).cpu()


class PipelineModel:
    """MODEL: the pipeline's own call, with KSampler's settings. One sampling at a time."""

    def __init__(self, family: Family, shift: float | None = None) -> None:
        self._family = family
        self._shift = shift
        self.latent_channels: int = family.pipe.vae.config.latent_channels

    def with_shift(self, shift: float) -> PipelineModel:
        """Return the same weights with a fixed flow shift."""
        return PipelineModel(self._family, shift)

    def sample(
        self,
        latent: Tensor,
        positive: Conditioning,
        negative: Conditioning,
        settings: Settings,
        on_step: OnStep,
    ) -> Tensor:
        """
        Sample one prompt; row i starts from the noise of seed + i, so that each row can be made again alone.

        :raises CheckpointError: a setting that the pipeline cannot follow.
        """
        rows = len(latent)
        seeds = [(settings.seed + i) % 2**64 for i in range(rows)]
        return self.sample_rows(latent, [positive] * rows, [negative] * rows, seeds, settings, on_step)

    def sample_rows(
        self,
        latent: Tensor,
        positives: Sequence[Conditioning],
        negatives: Sequence[Conditioning],
        seeds: Sequence[int],
        settings: Settings,
        on_step: OnStep,
    ) -> Tensor:
        """
        Sample rows with their own prompts and seeds in one batch; each equals the row made alone, to rounding.

        Noise is drawn on the CPU in float32 from one generator per row, so that it is the same on every device and
        in every precision. ``settings.cfg`` is ComfyUI's: 1 means no guidance and one forward a step. ``denoise``
        is ComfyUI's as well: the last ``steps`` of ``steps / denoise``.

        :param latent: [B, C, h, w] in the autoencoder's space: the start where ``denoise`` is below 1.
        :param seeds: B of them; ``settings.seed`` is not read.
        :return: [B, C, h, w] float32 on the CPU, in the autoencoder's space.
        :raises CheckpointError: a setting, size or conditioning that the pipeline cannot follow.
        """
        family, pipe = self._family, self._family.pipe
        scheduler = schedule(family.scheduler, settings, self._shift)
        self._check(latent, settings.cfg)
        if not len(latent) == len(positives) == len(negatives) == len(seeds):
            counts = [len(latent), len(positives), len(negatives), len(seeds)]
            raise CheckpointError("latents, positives, negatives and seeds should be as many", value=counts)
        packed = family.pack(latent.float().to(pipe.device))
        noise = torch.cat(
            [
                torch.randn((1, *packed.shape[1:]), generator=torch.Generator().manual_seed(seed))
                for seed in seeds
            ]
        )
        start = packed.lerp(noise.to(pipe.device), scheduler.levels[0])
        steps = len(scheduler.levels) - 1

        def report(_: Any, step: int, __: Any, ___: Any) -> dict[str, Any]:
            expected = scheduler.expected
            on_step(step + 1, steps, lambda: self._paint(expected))
            return {}

        pipe.scheduler = scheduler
        sampled = pipe(
            **family.arguments(self._own(positives), self._own(negatives), settings.cfg),
            height=latent.shape[2] * 8,
            width=latent.shape[3] * 8,
            num_inference_steps=steps,
            latents=start.to(family.dtype),
            output_type="latent",
            return_dict=False,
            callback_on_step_end=report,
        )[0]
        return family.unpack(sampled.float()).cpu()

    def _check(self, latent: Tensor, cfg: float) -> None:
        """Refuse what the pipeline would do wrongly, or end with a message of its own tensors."""
        _check_channels(latent, self.latent_channels)
        if cfg < 1:
            raise CheckpointError(
                "diffusers pipelines guide towards the prompt only",
                where="KSampler.cfg",
                value=cfg,
                hint="set cfg to 1 for no guidance, or above",
            )
        height, width = latent.shape[2:]
        found = f"{width * 8}x{height * 8}"
        if height % 2 or width % 2:
            raise CheckpointError("width and height should be multiples of 16", where="latent", value=found)
        largest = self._family.largest
        if largest and (height > largest[0] or width > largest[1]):
            raise CheckpointError(
                f"this model draws at most {largest[1] * 8}x{largest[0] * 8}", where="latent", value=found
            )

    def _paint(self, packed: Tensor) -> Tensor:
        """Decode a small copy of the latents: a preview should cost little beside a step."""
        latent = self._family.unpack(packed.float())
        scale = min(1.0, PREVIEW / max(latent.shape[2:]))
        return PipelineAutoencoder(self._family.pipe.vae).decode(
            functional.interpolate(latent, scale_factor=scale, mode="area")
        )

    def _own(self, rows: Sequence[Conditioning]) -> list[Encoded]:
        own = [row for row in rows if isinstance(row, Encoded) and row.pipe is self._family.pipe]
        if len(own) < len(rows):
            raise CheckpointError(
                "a prompt was encoded by another checkpoint than the one that samples",
                where="KSampler",
                hint="connect MODEL and CLIP of the same CheckpointLoaderSimple",
            )
        return own


def _check_channels(latent: Tensor, channels: int) -> None:
    if latent.shape[1] != channels:
        raise CheckpointError(
            f"the latents should have {channels} channels",
            where="latent",
            value=latent.shape[1],
            hint="connect MODEL and VAE of the same CheckpointLoaderSimple",
        )
