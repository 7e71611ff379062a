"""What a checkpoint gives to the nodes: a model, a text encoder and an autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


COMFYUI_SCALES = (".comfy_quant", ".weight_scale", ".scale_weight", ".input_scale", "scaled_fp8")
"""How the tensors end that only ComfyUI knows to apply to quantized weights."""


@dataclass(frozen=True, slots=True)
class Settings:
    """KSampler's inputs. ``denoise`` is above 0 and at most 1; ``seed`` is below 2**64."""

    seed: int
    steps: int
    cfg: float
    sampler: str
    scheduler: str
    denoise: float = 1.0


OnStep = Callable[[int, int, Callable[[], "Tensor"]], None]
"""Called after each step with its number from 1, the number of steps, and a function that paints the result expected
now, pixels [B, H, W, 3] in 0..1 (of any size), for a preview; an exception it raises ends the sampling."""


class Conditioning(Protocol):
    """An encoded prompt; only the model of the same checkpoint can read it."""

    def zeroed(self) -> Conditioning:
        """Return the conditioning that says nothing, as ConditioningZeroOut makes it."""


class TextEncoder(Protocol):
    """CLIP on the canvas."""

    def encode(self, text: str) -> Conditioning:
        """
        Encode one prompt.

        :raises PromptmillError: the text has words or a length that the encoder does not know.
        """


class Autoencoder(Protocol):
    """VAE on the canvas; latents are as the checkpoint's own autoencoder gives them, without further scaling."""

    def encode(self, pixels: Tensor) -> Tensor:
        """[B, H, W, 3] in 0..1 to latents [B, C, H / 8, W / 8]; sides are cut to a multiple of 8."""

    def decode(self, latent: Tensor) -> Tensor:
        """Latents [B, C, h, w] to float32 pixels [B, 8 h, 8 w, 3], 0..1 but not cut off."""


class Model(Protocol):
    """MODEL on the canvas."""

    @property
    def latent_channels(self) -> int:
        """How many channels its latents have."""

    def with_shift(self, shift: float) -> Model:
        """Return the same weights with another flow shift, as ModelSamplingSD3 sets it."""

    def sample(
        self,
        latent: Tensor,
        positive: Conditioning,
        negative: Conditioning,
        settings: Settings,
        on_step: OnStep,
    ) -> Tensor:
        """
        Sample latents of the shape of ``latent`` [B, C, h, w], which holds the start where ``denoise`` is below 1.

        :raises PromptmillError: a setting that this model cannot follow.
        """


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """CheckpointLoaderSimple's three outputs."""

    model: Model
    clip: TextEncoder
    vae: Autoencoder
