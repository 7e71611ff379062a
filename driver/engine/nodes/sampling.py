"""Checkpoints, prompts and the sampler."""

from __future__ import annotations

from typing import Any

from ..models.checkpoint import Autoencoder, Conditioning, Model, Settings, TextEncoder
from .context import Context

Latent = dict[str, Any]
"""LATENT on the canvas: ``samples`` is a tensor [B, C, h, w]."""


def load_checkpoint(context: Context, *, ckpt_name: str) -> tuple[Model, TextEncoder, Autoencoder]:
    """CheckpointLoaderSimple."""
    checkpoint = context.checkpoint(ckpt_name)
    return checkpoint.model, checkpoint.clip, checkpoint.vae


def encode_text(context: Context, *, text: str, clip: TextEncoder) -> tuple[Conditioning]:
    """CLIPTextEncode."""
    return (clip.encode(text),)


def zero_out(context: Context, *, conditioning: Conditioning) -> tuple[Conditioning]:
    """ConditioningZeroOut."""
    return (conditioning.zeroed(),)


def shift_sampling(context: Context, *, model: Model, shift: float) -> tuple[Model]:
    """ModelSamplingSD3."""
    return (model.with_shift(shift),)


def sample(
    context: Context,
    *,
    model: Model,
    seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    positive: Conditioning,
    negative: Conditioning,
    latent_image: Latent,
    denoise: float,
) -> tuple[Latent]:
    """KSampler; empty latents of another model's shape get the channels of this one."""
    latent = latent_image["samples"]
    if latent.shape[1] != model.latent_channels and not latent.any():
        latent = latent.new_zeros((latent.shape[0], model.latent_channels, *latent.shape[2:]))
    if denoise > 0:
        settings = Settings(seed, steps, cfg, sampler_name, scheduler, denoise)
        latent = model.sample(latent, positive, negative, settings, context.on_step)
    return ({**latent_image, "samples": latent},)
