"""
Sigma schedules and samplers of ComfyUI's KSampler for flow models, so that a seed gives the same picture there and here.

A flow model predicts the clean latent x0 from x = (1 - sigma) x0 + sigma noise; sigma falls from 1 to 0. The
schedules count in 1000 time steps t, shifted as sigma = s t / (1 + (s - 1) t) (Esser et al. 2024, section 5.3.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 1000

Denoise = Callable[["Tensor", float], "Tensor"]
"""x [B, C, h, w] and sigma to the clean latent expected there."""


def shifted(time: Tensor, shift: float) -> Tensor:
    """Flow shift of times in 0..1."""
    return shift * time / (1 + (shift - 1) * time)


def _grid(shift: float) -> Tensor:
    return shifted(torch.arange(1, STEPS + 1) / STEPS, shift)


def _simple(steps: int, shift: float) -> Tensor:
    return _grid(shift)[[STEPS - 1 - int(step * (STEPS / steps)) for step in range(steps)]]


def _normal(steps: int, shift: float) -> Tensor:
    grid = _grid(shift)
    return shifted(torch.linspace(float(grid[-1]), float(grid[0]), steps), shift)


def _sgm_uniform(steps: int, shift: float) -> Tensor:
    grid = _grid(shift)
    return shifted(torch.linspace(float(grid[-1]), float(grid[0]), steps + 1)[:-1], shift)


def _beta(steps: int, shift: float) -> Tensor:
    """Quantiles of a beta distribution (Lee et al. 2024, arXiv 2407.12173); equal neighbours count once."""
    import numpy as np
    from scipy.stats import beta

    quantiles = beta.ppf(1 - np.linspace(0, 1, steps, endpoint=False), 0.6, 0.6)
    places = np.rint(quantiles * (STEPS - 1)).astype(int)
    return _grid(shift)[list(dict.fromkeys(places.tolist()))]


SCHEDULERS: dict[str, Callable[[int, float], Tensor]] = {
    "simple": _simple,
    "sgm_uniform": _sgm_uniform,
    "normal": _normal,
    "beta": _beta,
}


def sigmas(scheduler: str, steps: int, denoise: float, shift: float) -> list[float]:
    """
    Return the sigmas of ``steps`` steps, from the largest down to 0.

    With ``denoise`` below 1 they are the last ones of a schedule of ``steps / denoise`` steps.
    """
    total = steps if denoise > 0.9999 else int(steps / denoise)
    return [*SCHEDULERS[scheduler](total, shift).tolist(), 0.0][-(steps + 1) :]


def noise_like(latent: Tensor, seed: int) -> Tensor:
    """One stream of CPU noise for the whole batch: row 0 is what the seed gives alone."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(latent.shape, generator=generator).to(latent.device)


Steps = Iterator[tuple["Tensor", "Tensor"]]
"""After each step: x, and the clean latent that was expected before it."""


def _euler(denoise: Denoise, x: Tensor, sigmas: list[float], seed: int) -> Steps:
    for now, then in pairwise(sigmas):
        clean = denoise(x, now)
        x = x + (x - clean) / now * (then - now)
        yield x, clean


def _euler_ancestral(denoise: Denoise, x: Tensor, sigmas: list[float], seed: int) -> Steps:
    """Step below the next sigma, then add the noise that lifts x back onto the flow's path at it."""
    generator = torch.Generator().manual_seed((seed + 1) % 2**64)
    for now, then in pairwise(sigmas):
        clean = denoise(x, now)
        if then == 0:
            x = clean
        else:
            below = then * then / now
            scale = (1 - then) / (1 - below)
            x = scale * (below / now * x + (1 - below / now) * clean)
            noise = torch.randn(x.shape, generator=generator).to(x.device)
            x = x + noise * (then**2 - (below * scale) ** 2) ** 0.5
        yield x, clean


def _dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: list[float], seed: int) -> Steps:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), in lambda = -log sigma."""
    earlier: Tensor | None = None
    before = 0.0
    for now, then in pairwise(sigmas):
        clean = denoise(x, now)
        if then == 0:
            x = clean
        else:
            width = math.log(now / then)
            ahead = clean if earlier is None else clean + (clean - earlier) * width / (2 * before)
            x = then / now * x + (1 - then / now) * ahead
            before = width
        earlier = clean
        yield x, clean


SAMPLERS: dict[str, Callable[[Denoise, Tensor, list[float], int], Steps]] = {
    "euler": _euler,
    "euler_ancestral": _euler_ancestral,
    "dpmpp_2m": _dpmpp_2m,
}
