"""KSampler's schedulers and denoise for the pipelines' own flow-match Euler."""

from __future__ import annotations

from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from .....errors import CheckpointError
from ..checkpoint import Settings
from ..sampling import SCHEDULERS, sigmas


class KSamplerEuler(FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """
    A folder's scheduler that takes KSampler's sigmas whatever the pipeline asks for.

    ``levels`` are the sigmas down to 0: shifted, or not yet where the folder shifts them by the picture's size.
    ``expected`` is the clean latent [B, C, h, w] that the last step expected.
    """

    levels: list[float]
    expected: Tensor

    def set_timesteps(
        self,
        num_inference_steps: Any = None,
        device: Any = None,
        sigmas: Any = None,
        mu: Any = None,
        timesteps: Any = None,
    ) -> None:
        """Set KSampler's levels; ``mu`` is the pipeline's shift by size."""
        super().set_timesteps(device=device, sigmas=self.levels[:-1], mu=mu)

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, **options: Any) -> Any:
        """Take the Euler step and keep what it expects: x - sigma v."""
        stepped = super().step(model_output, timestep, sample, **options)
        self.expected = sample - self.sigmas[self.step_index - 1] * model_output
        return stepped


def schedule(own: Any, settings: Settings, shift: float | None) -> KSamplerEuler:
    """
    Return a copy of the folder's scheduler that follows KSampler, with the same sigmas as ComfyUI.

    The pipelines by themselves space their steps as ``simple`` (ERNIE-Image, Z-Image) or ``normal`` (SD3).

    :param shift: a fixed flow shift in place of the folder's own.
    :raises CheckpointError: a sampler, scheduler or denoise that the pipeline cannot follow.
    """
    if settings.sampler != "euler":
        raise CheckpointError(
            "diffusers pipelines sample with euler only",
            where="KSampler.sampler_name",
            value=settings.sampler,
            hint="set sampler_name to euler",
        )
    if settings.scheduler not in SCHEDULERS:
        raise CheckpointError(
            "diffusers pipelines have no such scheduler",
            where="KSampler.scheduler",
            value=settings.scheduler,
            hint=f"set scheduler to one of {', '.join(SCHEDULERS)}",
        )
    by_size = shift is None and own.config.use_dynamic_shifting
    if by_size and settings.denoise < 1:
        raise CheckpointError(
            "this model's noise depends on the picture's size, so it cannot start from a picture",
            where="KSampler.denoise",
            value=settings.denoise,
            hint="set denoise to 1, or a fixed shift with ModelSamplingSD3",
        )
    made: KSamplerEuler = KSamplerEuler.from_config(
        own.config,
        shift=1.0,
        use_dynamic_shifting=by_size,
        use_karras_sigmas=False,
        use_exponential_sigmas=False,
        use_beta_sigmas=False,
        stochastic_sampling=False,
    )
    made.levels = sigmas(
        settings.scheduler,
        settings.steps,
        settings.denoise,
        1.0 if by_size else own.config.shift if shift is None else shift,
    )
    return made
