"""A checkpoint of SD3's shape in one .safetensors: MMDiT, TAESD and a CLIP-L whose blocks pass through."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from diffusers import AutoencoderTiny, SD3Transformer2DModel
from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers
from safetensors import safe_open
from torch import Tensor

from ....errors import CheckpointError
from .checkpoint import Checkpoint, Conditioning, OnStep, Settings
from .sampling import SAMPLERS, noise_like, sigmas
from .text import Vocabulary

VOCABULARY = "promptmill_vocabulary"
"""The metadata entry of a checkpoint that holds its words and their CLIP token ids."""

MODEL = "model.diffusion_model."
AUTOENCODER = "first_stage_model."
TEXT = "text_encoders.clip_l.transformer.text_model."
SCALE, SHIFT = 1.5305, 0.0609  # SD3's latents: the model sees (latent - SHIFT) * SCALE
FLOW_SHIFT = 3.0
POOLED = 2048


@dataclass(frozen=True, slots=True)
class Words:
    """An encoded prompt: [1, 77, 768]. The pooled part is zero, since the demo's last layer norm is."""

    context: Tensor

    def zeroed(self) -> Words:
        """The conditioning that says nothing."""
        return Words(torch.zeros_like(self.context))


class WordEncoder:
    """CLIP-L with blocks that pass through: token embedding plus position embedding."""

    def __init__(self, vocabulary: Vocabulary, tokens: Tensor, positions: Tensor) -> None:
        """
        :param tokens: the embedding [words, 768] in the order of ``vocabulary.all_ids()``.
        :param positions: [77, 768].
        """
        self._vocabulary = vocabulary
        self._rows = {token: row for row, token in enumerate(vocabulary.all_ids())}
        self._tokens = tokens
        self._positions = positions

    def encode(self, text: str) -> Words:
        """
        Encode a prompt.

        :raises CheckpointError: words that the checkpoint does not know, or too many of them.
        """
        rows = [self._rows[token] for token in self._vocabulary.tokens(text)]
        return Words((self._tokens[rows] + self._positions)[None])


@dataclass(frozen=True, slots=True, repr=False)
class TinyAutoencoder:
    """TAESD: 16 channels, an eighth of the side."""

    network: AutoencoderTiny

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """[B, H, W, 3] in 0..1 to latents; what is over a multiple of 8 is cut from both sides."""
        height, width = pixels.shape[1:3]
        top, left = height % 8 // 2, width % 8 // 2
        kept = pixels[:, top : top + height // 8 * 8, left : left + width // 8 * 8, :3]
        images = kept.movedim(-1, 1).to(self.network.device) * 2 - 1
        return cast(Tensor, self.network.encode(images).latents) / SCALE + SHIFT

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> Tensor:
        """Latents to float32 pixels [B, 8 h, 8 w, 3], 0..1 but not cut off."""
        images = self.network.decode((latent.to(self.network.device) - SHIFT) * SCALE).sample
        return cast(Tensor, images).add(1).div(2).movedim(1, -1).float().cpu()


@dataclass(frozen=True, slots=True, repr=False)
class FlowModel:
    """The MMDiT, sampled as ComfyUI samples SD3."""

    network: SD3Transformer2DModel
    autoencoder: TinyAutoencoder
    shift: float = FLOW_SHIFT
    latent_channels: int = 16

    def with_shift(self, shift: float) -> FlowModel:
        """Return the same weights with another flow shift."""
        return replace(self, shift=shift)

    @torch.inference_mode()
    def sample(
        self,
        latent: Tensor,
        positive: Conditioning,
        negative: Conditioning,
        settings: Settings,
        on_step: OnStep,
    ) -> Tensor:
        """
        Sample latents of the shape of ``latent`` [B, 16, h, w].

        :raises CheckpointError: the size does not fit the model.
        """
        self._check(latent)
        levels = sigmas(settings.scheduler, settings.steps, settings.denoise, self.shift)
        latent = latent.to(self.network.device, torch.float32)
        if latent.count_nonzero():
            latent = (latent - SHIFT) * SCALE
        noise = noise_like(latent, settings.seed)
        x = levels[0] * noise + (1 - levels[0]) * latent
        denoise = self._denoiser(positive, negative, settings.cfg)
        steps = SAMPLERS[settings.sampler](denoise, x, levels, settings.seed)
        for number, (x, clean) in enumerate(steps, 1):  # noqa: B007 - the last x is the result
            on_step(number, len(levels) - 1, partial(self._paint, clean))
        return (x / SCALE + SHIFT).cpu()

    def _paint(self, x: Tensor) -> Tensor:
        return self.autoencoder.decode(x / SCALE + SHIFT)

    def _check(self, latent: Tensor) -> None:
        height, width = latent.shape[-2:]
        largest = self.network.config.pos_embed_max_size * self.network.config.patch_size
        if height % 2 or width % 2 or max(height, width) > largest:
            raise CheckpointError(
                "the model cannot make this size",
                where="width and height",
                value=f"{width * 8}x{height * 8}",
                hint=f"multiples of 16, at most {largest * 8}; it was trained at 128x128 and 192x192",
            )

    def _denoiser(
        self, positive: Conditioning, negative: Conditioning, cfg: float
    ) -> Callable[[Tensor, float], Tensor]:
        guided = not math.isclose(cfg, 1.0)
        sides = [positive, negative] if guided else [positive]
        own = [side.context for side in sides if isinstance(side, Words)]
        if len(own) < len(sides):
            raise CheckpointError(
                "the prompt was encoded by another checkpoint",
                hint="connect MODEL and CLIP of one CheckpointLoaderSimple",
            )
        context = torch.cat(own).to(self.network.device)

        def denoise(x: Tensor, sigma: float) -> Tensor:
            count = len(x)
            velocity: Tensor = self.network(
                hidden_states=x.repeat(len(sides), 1, 1, 1),
                encoder_hidden_states=context.repeat_interleave(count, 0),
                pooled_projections=x.new_zeros(len(sides) * count, POOLED),
                timestep=x.new_full((len(sides) * count,), sigma * 1000),
                return_dict=False,
            )[0]
            clean = x - velocity[:count] * sigma
            if not guided:
                return clean
            unguided = x - velocity[count:] * sigma
            return unguided + (clean - unguided) * cfg

        return denoise


def load_sd3(path: Path, device: str) -> Checkpoint:
    """
    Load the demo checkpoint, as shipped or as exported.

    :raises CheckpointError: the file is not one of them.
    """
    with safe_open(path, "pt") as file:
        words = (file.metadata() or {}).get(VOCABULARY)
        if words is None:
            raise CheckpointError(
                "the engine samples the demo checkpoint and diffusers folders; other single files need ComfyUI",
                where=path.name,
                hint="run the workflow on a ComfyUI server, or put a diffusers folder into the models folder",
            )
        state = {
            name: file.get_tensor(name).float()
            for name in file.keys()  # noqa: SIM118 - not a dict
            if not name.startswith(f"{TEXT}encoder")
        }
    vocabulary = Vocabulary(json.loads(words))
    parts = [
        {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        for prefix in (MODEL, AUTOENCODER, TEXT)
    ]
    autoencoder = TinyAutoencoder(_autoencoder(parts[1]).to(device).eval())
    model = FlowModel(_transformer(parts[0]).to(device).eval(), autoencoder)
    tokens = parts[2]["embeddings.token_embedding.weight"]
    if len(tokens) > len(vocabulary.all_ids()):
        tokens = tokens[vocabulary.all_ids()]
    clip = WordEncoder(vocabulary, tokens, parts[2]["embeddings.position_embedding.weight"])
    return Checkpoint(model, clip, autoencoder)


def _transformer(state: dict[str, Tensor]) -> SD3Transformer2DModel:
    hidden, latent, patch, _ = state["x_embedder.proj.weight"].shape
    with torch.device("meta"):
        network = SD3Transformer2DModel(
            patch_size=patch,
            in_channels=latent,
            out_channels=latent,
            num_layers=hidden // 64,
            num_attention_heads=hidden // 64,
            caption_projection_dim=hidden,
            joint_attention_dim=768,
            pooled_projection_dim=POOLED,
            pos_embed_max_size=math.isqrt(state["pos_embed"].shape[1]),
            qk_norm="rms_norm",
        )
    state["context_embedder.weight"] = state["context_embedder.weight"][:, :768]
    state.setdefault("y_embedder.mlp.0.weight", torch.zeros(hidden, POOLED))
    network.load_state_dict(convert_sd3_transformer_checkpoint_to_diffusers(state), assign=True)
    return network


def new_autoencoder() -> AutoencoderTiny:
    """TAESD's shape with 16 latent channels, not yet trained."""
    return AutoencoderTiny(
        latent_channels=16,
        encoder_block_out_channels=(64,) * 4,
        decoder_block_out_channels=(64,) * 4,
        num_encoder_blocks=(1, 3, 3, 3),
        num_decoder_blocks=(3, 3, 3, 1),
    )


def _autoencoder(state: dict[str, Tensor]) -> AutoencoderTiny:
    network = new_autoencoder()
    renamed = {}
    for name, value in state.items():
        if name.startswith("taesd_"):
            side, number, rest = name.removeprefix("taesd_").split(".", 2)
            place = int(number) - (side == "decoder")  # ComfyUI's decoder counts its clamp as a layer
            renamed[f"{side}.layers.{place}.{rest}"] = value
    network.load_state_dict(renamed)
    return network
