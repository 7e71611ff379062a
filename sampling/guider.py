"""A guider for a batch in which every row has its own prompt and seed."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from comfy.sample import prepare_noise
from comfy.samplers import CFGGuider, calc_cond_batch, process_conds, sampling_function

from ..errors import SamplingError
from .alone import Conditioning, why_model_alone, why_row_alone
from .groups import Entries, group
from .padding import ACCELERATED, can_pad, pad, without_padding, wrappers_of
from .samplers import row_sampler, why_alone


class RowGuider(CFGGuider):
    """ComfyUI's GUIDER: image i of the batch is the one that ComfyUI makes alone of prompt i with seed i.

    In fp32 both differ by rounding only (tests/sampling: at most 1e-5 of the largest value). In bf16 or fp8 a batch rounds
    otherwise than a single image, so the images look alike but are not identical (1e-2 was measured in bf16); NVFP4 weights
    without ``input_scale`` take their scale from the whole batch. One row per batch gives identity.

    Rows whose prompts have the same shapes share a forward, on ERNIE-Image rows of any length. What may look at the whole
    batch (ControlNet, masks, areas, hooks, reference latents, ranges of steps, caches that skip steps, samplers of other
    packs) makes its rows be sampled one at a time; the log says why.
    """

    def __init__(
        self,
        model: Any,
        positive: Sequence[Conditioning],
        negative: Sequence[Conditioning],
        cfg: float,
        seeds: Sequence[int],
    ) -> None:
        """
        :param model: ComfyUI's ModelPatcher.
        :param positive: a conditioning a row.
        :param negative: a conditioning a row; not computed where ``cfg`` is 1, as in ComfyUI.
        :param seeds: one a row, as in the noise; they drive samplers that draw noise on the way.
        :raises SamplingError: there are no rows, or the counts differ.
        """
        if not len(positive) == len(negative) == len(seeds) > 0:
            raise SamplingError(
                "every row needs a positive, a negative and a seed",
                value=f"{len(positive)} positives, {len(negative)} negatives, {len(seeds)} seeds",
                hint="connect the same rows to each input",
            )
        super().__init__(model)
        self.set_cfg(cfg)
        self.positive, self.negative, self.seeds = list(positive), list(negative), list(seeds)

    def sample(
        self,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        sampler: Any,
        sigmas: torch.Tensor,
        denoise_mask: torch.Tensor | None = None,
        callback: Callable[..., Any] | None = None,
        disable_pbar: bool = False,
        seed: int | None = None,
    ) -> torch.Tensor:
        """Sample all rows.

        :param noise: RowNoise's for the same seeds, or zeros: (N, C, H, W) or (N, C, T, H, W).
        :param latent_image: one latent a row, zeros for text to image.
        :param denoise_mask: one mask for all rows, or one a row.
        :param callback: ``(step, x0, x, steps)`` with x0 of the whole batch, of shape N, C, …
        :param seed: the noise's. With zeros for noise (Disable Noise) it drives the sampler for every row, as in ComfyUI;
            otherwise the rows' own seeds do.
        :returns: one latent a row.
        :raises SamplingError: the counts do not fit, the noise is not of these rows, or the sampler cannot be exact.
        """
        count = len(self.seeds)
        if latent_image.is_nested:
            raise SamplingError("latents of several tensors (video with sound) cannot be a batch of rows")
        for name, tensor in (("noise", noise), ("latent", latent_image)):
            if len(tensor) != count:
                raise SamplingError(
                    f"the {name} should have one entry for each of {count} rows",
                    value=len(tensor),
                    hint=f"batch_size {count} in the empty latent, and Row Noise of the same rows",
                )
        rows = getattr(seed, "rows", (seed,))
        if seed is not None and rows != tuple(self.seeds[: len(rows)]):
            if noise.any():
                raise SamplingError(
                    "the noise is not that of the guider's rows",
                    value=seed,
                    hint="connect Row Noise of the same rows",
                )
            unseeded = RowGuider(self.model_patcher, self.positive, self.negative, self.cfg, [seed] * count)
            return unseeded.sample(
                noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed
            )
        masks = None if denoise_mask is None else _mask_per_row(denoise_mask, latent_image)
        alone = [0] if count == 1 else self._alone(sampler, latent_image)
        if not alone:
            self.set_conds(_flat(self.positive), _flat(self.negative))
            exact, first = row_sampler(sampler, self.seeds), self.seeds[0]
            whole: torch.Tensor = super().sample(
                noise, latent_image, exact, sigmas, masks, callback, disable_pbar, first
            )
            return whole

        together = [row for row in range(count) if row not in alone]
        parts = [*([together] if together else []), *([row] for row in alone)]
        images: dict[int, torch.Tensor] = {}
        x0 = torch.zeros(noise.shape, device=self.model_patcher.load_device)
        for done, rows in enumerate(parts):
            if len(rows) == 1:  # the global generator as ComfyUI leaves it for samplers that draw from it
                prepare_noise(latent_image[rows], self.seeds[rows[0]])
            made = self._of(rows).sample(
                noise[rows],
                latent_image[rows],
                sampler,
                sigmas,
                None if masks is None else masks[rows],
                callback and partial(_report, callback, x0, rows, done, len(parts)),
                disable_pbar,
                self.seeds[rows[0]],
            )
            images |= zip(rows, made.split(1), strict=True)
        return torch.cat([images[row] for row in range(count)])

    def _alone(self, sampler: Any, latent_image: torch.Tensor) -> list[int]:
        """The rows to sample one at a time."""
        count = len(self.seeds)
        if of_all := why_alone(sampler) or why_model_alone(self.model_patcher):
            why = dict.fromkeys(range(count), of_all)
        else:
            why = {row: why_row_alone(self.positive[row], self.negative[row]) for row in range(count)}
            empty = [not latent.any() for latent in latent_image]
            if any(empty) and not all(empty):  # ComfyUI leaves an empty latent unscaled
                why |= {row: why[row] or "an empty latent" for row in range(count) if empty[row]}
        alone = [row for row in range(count) if why[row]]
        if alone:
            logging.info(
                "promptmill: %d of %d rows are sampled one at a time (%s)",
                len(alone),
                count,
                "; ".join(sorted({why[row] for row in alone})),
            )
        return alone

    def _of(self, rows: list[int]) -> CFGGuider:
        """A guider of these rows only: ComfyUI's own for one row."""
        positive, negative = [self.positive[row] for row in rows], [self.negative[row] for row in rows]
        if len(rows) > 1:
            return RowGuider(
                self.model_patcher, positive, negative, self.cfg, [self.seeds[row] for row in rows]
            )
        guider = CFGGuider(self.model_patcher)
        guider.set_conds(positive[0], negative[0])
        guider.set_cfg(self.cfg)
        return guider

    def inner_sample(
        self,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        device: Any,
        sampler: Any,
        sigmas: torch.Tensor,
        denoise_mask: torch.Tensor | None,
        *others: Any,
        **named: Any,
    ) -> torch.Tensor:
        """Process each row's conditioning as if the row were alone, and group the rows that can share a forward."""
        model = self.inner_model
        image = model.process_latent_in(latent_image) if latent_image.any() else latent_image
        rows = [
            self._process(row, seed, noise, image, denoise_mask, device)
            for row, seed in enumerate(self.seeds)
        ]
        forward: Any = nullcontext()
        if can_pad(model.diffusion_model, self.model_options):
            together = (
                [["positive"], ["negative"]] if math.isclose(self.cfg, 1) else [["positive", "negative"]]
            )
            for kinds in together:
                pad([row[kind] for row in rows for kind in kinds])
            forward = without_padding(model.diffusion_model)
        accelerated = ACCELERATED in wrappers_of(self.model_options)
        self.rows, self.groups = rows, group(rows, device, accelerated)
        self.conds: dict[str, Any] = {}  # processed above
        try:
            with forward:
                samples: torch.Tensor = super().inner_sample(
                    noise, latent_image, device, sampler, sigmas, denoise_mask, *others, **named
                )
        finally:
            del self.rows, self.groups  # ComfyUI keeps guiders
        return samples

    def _process(
        self,
        row: int,
        seed: int,
        noise: torch.Tensor,
        image: torch.Tensor,
        mask: torch.Tensor | None,
        device: Any,
    ) -> Entries:
        own = slice(row, row + 1)
        conds = process_conds(
            self.inner_model,
            noise[own],
            {kind: [entries[row]] for kind, entries in self.conds.items()},
            device,
            image[own],
            None if mask is None else mask[own],
            seed,
            latent_shapes=[image[own].shape],
        )
        return {kind: entries[0] for kind, entries in conds.items()}

    def predict_noise(
        self,
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: dict[str, Any] | None = None,
        seed: Any = None,
    ) -> torch.Tensor:
        """x0 of the whole batch; guidance functions see the whole batch, each forward a group of it."""
        denoised: torch.Tensor = sampling_function(
            self.inner_model,
            x,
            timestep,
            [row["negative"] for row in self.rows],
            [row["positive"] for row in self.rows],
            self.cfg,
            {**(model_options or {}), "sampler_calc_cond_batch_function": self._predict_groups},
            seed,
        )
        return denoised

    def _predict_groups(self, args: dict[str, Any]) -> list[torch.Tensor]:
        x, sigma = args["input"], args["sigma"]
        out = [torch.zeros_like(x) for _ in args["conds"]]
        for rows, entries in self.groups:
            conds = [
                [entries[kind]] if asked else None
                for kind, asked in zip(("positive", "negative"), args["conds"], strict=True)
            ]
            parts = calc_cond_batch(args["model"], conds, x[rows], sigma[rows], args["model_options"])
            for whole, part in zip(out, parts, strict=True):
                whole[rows] = part
        return out


def _flat(conditionings: Sequence[Conditioning]) -> list[Any]:
    return [entry for conditioning in conditionings for entry in conditioning]


def _mask_per_row(mask: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    """The mask with one entry a row, read as ComfyUI's ``reshape_mask`` reads it."""
    if latent.ndim == 4:
        mask = mask.reshape(-1, 1, *mask.shape[-2:])
    elif latent.ndim == 5 and mask.ndim < 5:
        mask = mask.reshape(1, 1, -1, *mask.shape[-2:])
    count = len(latent)
    if len(mask) not in (1, count):
        raise SamplingError(
            "the noise mask should have one entry, or one for each row",
            value=len(mask),
            hint=f"1 or {count} masks",
        )
    return mask.expand(count, *mask.shape[1:])


def _report(
    callback: Callable[..., Any],
    batch: torch.Tensor,
    rows: list[int],
    done: int,
    parts: int,
    step: int,
    x0: torch.Tensor,
    x: torch.Tensor,
    steps: int,
) -> None:
    """The progress of some rows as that of the batch."""
    batch[rows] = x0.to(batch)
    callback(done * steps + step, batch, x, parts * steps)
