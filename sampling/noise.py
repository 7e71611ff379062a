"""The noise of a batch in which every row has its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy.sample import prepare_noise

from ..errors import SamplingError


class RowSeed(int):
    """The first row's seed, as ComfyUI wants it, with those of all rows, so that the guider knows its own."""

    rows: tuple[int, ...]


class RowNoise:
    """ComfyUI's NOISE: row i's noise is what ComfyUI draws for that row alone with ``seeds[i]``.

    ``seed`` is a RowSeed: ComfyUI hands it to the guider.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        """
        :param seeds: one a row, 0 … 2**64 - 1.
        :raises SamplingError: there is none.
        """
        if not seeds:
            raise SamplingError("there are no rows", hint="give one seed a row")
        self.seeds = tuple(seeds)
        self.seed = RowSeed(self.seeds[0])
        self.seed.rows = self.seeds

    def generate_noise(self, latent: dict[str, Any]) -> torch.Tensor:
        """Standard normal noise like ``latent["samples"]`` (N, C, H, W) or (N, C, T, H, W), on the CPU.

        A ``batch_index`` is honoured as ComfyUI does for one image: row i's noise is then draw ``batch_index[i]`` of its
        seed. Draws from, and seeds, torch's global generator, as ComfyUI does.

        :raises SamplingError: the latent does not have one image a seed.
        """
        samples = latent["samples"]
        if samples.is_nested:
            raise SamplingError("latents of several tensors (video with sound) cannot be a batch of rows")
        count = len(self.seeds)
        draws = latent.get("batch_index") or [None] * count
        for name, found in (("latent", len(samples)), ("latent's batch_index", len(draws))):
            if found != count:
                raise SamplingError(
                    f"the {name} should have one entry for each of {count} rows",
                    value=found,
                    hint=f"batch_size {count} in the empty latent",
                )
        return torch.cat(
            [
                prepare_noise(row, seed, None if draw is None else [draw])
                for row, seed, draw in zip(samples.split(1), self.seeds, draws, strict=True)
            ]
        )
