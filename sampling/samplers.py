"""ComfyUI's samplers, each made exact per row.

Measured for every name of ComfyUI 0.33 by tests/sampling: in fp32 a row differs from itself made alone by rounding only.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import wraps
from typing import Any

import torch
from comfy.k_diffusion.sampling import default_noise_sampler
from comfy.samplers import KSAMPLER

from ..errors import SamplingError


class Way(Enum):
    """How a sampler becomes exact per row."""

    AS_IS = "as it is"
    """It draws no noise on the way, and no step looks at two rows."""
    NOISE = "per-row noise"
    """It draws from one generator for the batch: each row gets a generator of its own."""
    BROWNIAN = "per-row Brownian trees"
    """It draws from one Brownian tree for the batch: each row gets a tree of its own."""
    REFUSED = "refused"
    """It takes its step size from an error over the whole batch."""


WAYS = {
    **dict.fromkeys(
        [
            "sample_euler",  # also ddim
            "sample_euler_cfg_pp",
            "sample_heun",
            "sample_heunpp2",
            "sample_exp_heun_2_x0",
            "sample_dpm_2",
            "sample_lms",
            "dpm_fast_function",
            "sample_dpmpp_2m",
            "sample_dpmpp_2m_cfg_pp",
            "sample_ipndm",
            "sample_ipndm_v",
            "sample_deis",
            "sample_res_multistep",
            "sample_res_multistep_cfg_pp",
            "sample_gradient_estimation",
            "sample_gradient_estimation_cfg_pp",
            "sample_unipc",
            "sample_unipc_bh2",
        ],
        Way.AS_IS,
    ),
    **dict.fromkeys(
        [
            "sample_euler_ancestral",
            "sample_euler_ancestral_cfg_pp",
            "sample_exp_heun_2_x0_sde",
            "sample_dpm_2_ancestral",
            "sample_dpmpp_2s_ancestral",
            "sample_dpmpp_2s_ancestral_cfg_pp",
            "sample_ddpm",
            "sample_lcm",
            "sample_res_multistep_ancestral",
            "sample_res_multistep_ancestral_cfg_pp",
            "sample_er_sde",
            "sample_seeds_2",
            "sample_seeds_3",
            "sample_sa_solver",
            "sample_sa_solver_pece",
        ],
        Way.NOISE,
    ),
    **dict.fromkeys(
        [
            "sample_dpmpp_sde",
            "sample_dpmpp_sde_gpu",
            "sample_dpmpp_2m_sde",
            "sample_dpmpp_2m_sde_gpu",
            "sample_dpmpp_2m_sde_heun",
            "sample_dpmpp_2m_sde_heun_gpu",
            "sample_dpmpp_3m_sde",
            "sample_dpmpp_3m_sde_gpu",
        ],
        Way.BROWNIAN,
    ),
    "dpm_adaptive_function": Way.REFUSED,
}
"""Name of ComfyUI's function to its way."""

CORE = ("comfy.k_diffusion.sampling", "comfy.samplers", "comfy.extra_samplers.uni_pc")

OVER_THE_BATCH = {
    "s_churn": "draws from the global generator",
    "noise_clip_std": "clips noise by the deviation of the whole batch",
    "noise_sampler": "brings a noise of its own",
}
"""Options that a sampler's node may have set, and what they do to a batch."""


def why_alone(sampler: Any) -> str:
    """Why this sampler must have one row at a time; empty when it need not."""
    function = getattr(sampler, "sampler_function", None)
    name, module = getattr(function, "__name__", ""), getattr(function, "__module__", "")
    if type(sampler) is not KSAMPLER or name not in WAYS or module not in CORE:
        return f"nothing is known of the sampler {module}.{name}"
    for option, does in OVER_THE_BATCH.items():
        if sampler.extra_options.get(option):
            return f"the sampler's {option} {does}"
    return ""


def row_sampler(sampler: KSAMPLER, seeds: Sequence[int]) -> KSAMPLER:
    """The same sampler, exact for a batch of ``len(seeds)`` rows: row i draws what it would draw alone with ``seeds[i]``.

    :raises SamplingError: the sampler cannot be exact: its steps depend on the whole batch, or nothing is known of it.
    """
    function = sampler.sampler_function
    if reason := why_alone(sampler):
        raise SamplingError(f"{reason}, so rows cannot share a batch", hint="one row per batch")
    way = WAYS[function.__name__]
    if way is Way.REFUSED:
        raise SamplingError(
            "dpm_adaptive takes its step size from the whole batch, so rows cannot share one",
            hint="another sampler, such as euler or dpmpp_2m; or one row per batch",
        )
    repaint = sampler.inpaint_options.get("random", False)

    @wraps(function)
    def sample(model: Any, x: torch.Tensor, sigmas: torch.Tensor, *, extra_args: Any, **options: Any) -> Any:
        rows = x.chunk(len(x))
        if repaint:  # ComfyUI repaints the places that a mask keeps with noise of the next seed
            generators = [torch.Generator().manual_seed(seed + 1) for seed in seeds]
            model.noise = torch.cat([torch.randn(x[:1].shape, generator=own) for own in generators]).to(x)
        if way is Way.NOISE:
            draws = [default_noise_sampler(row, seed=seed) for row, seed in zip(rows, seeds, strict=True)]
            options["noise_sampler"] = lambda *sigmas: torch.cat([draw(*sigmas) for draw in draws])
        elif way is Way.BROWNIAN:
            extra_args = {**extra_args, "seed": list(seeds)}
        return function(model, x, sigmas, extra_args=extra_args, **options)

    return KSAMPLER(sample, sampler.extra_options, sampler.inpaint_options)
