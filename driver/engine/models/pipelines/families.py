"""The three pipelines: how each encodes, guides and scales."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A prompt as the text encoders of ``pipe`` give it: [tokens, width], and SD3's pooled vector [width]."""

    pipe: Any
    tokens: Tensor
    pooled: Tensor | None = None

    def zeroed(self) -> Encoded:
        """Return zeros of the same shape."""
        pooled = None if self.pooled is None else torch.zeros_like(self.pooled)
        return replace(self, tokens=torch.zeros_like(self.tokens), pooled=pooled)


class Family(ABC):
    """What the nodes need to know of a loaded pipeline."""

    transformer: ClassVar[str]
    vae: ClassVar[str] = "AutoencoderKL"
    text: ClassVar[tuple[str, ...]] = ("text_encoder", "tokenizer")
    optional: ClassVar[tuple[str, ...]] = ()
    kept: ClassVar[tuple[str, ...]]
    """Parts of the transformer's layer names that fp8 and int8 leave alone: embedders, modulation, last layers."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.scheduler = pipe.scheduler

    @abstractmethod
    def encode(self, text: str) -> Encoded:
        """Encode one prompt by the pipeline's own encode_prompt."""

    @abstractmethod
    def count(self, text: str) -> tuple[int, int]:
        """Return how many tokens the prompt has, and how many the pipeline reads before it cuts."""

    @abstractmethod
    def arguments(self, rows: Sequence[Encoded], negatives: Sequence[Encoded], cfg: float) -> dict[str, Any]:
        """Return the prompts and the guidance as the pipeline's call takes them; ``cfg`` 1 is no guidance."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the latents that the pipeline's call takes."""
        dtype: torch.dtype = self.pipe.transformer.dtype
        return dtype

    @property
    def largest(self) -> tuple[int, int] | None:
        """The largest latent height and width that the transformer has positions for."""
        return None

    def pack(self, latent: Tensor) -> Tensor:
        """Latents of the autoencoder to those of the transformer."""
        config = self.pipe.vae.config
        packed: Tensor = (latent - config.shift_factor) * config.scaling_factor
        return packed

    def unpack(self, latent: Tensor) -> Tensor:
        """Latents of the transformer to those of the autoencoder."""
        config = self.pipe.vae.config
        unpacked: Tensor = latent / config.scaling_factor + config.shift_factor
        return unpacked


class StableDiffusion3(Family):
    """CLIP reads the first 77 tokens, T5 the first 256; its guidance_scale is KSampler's cfg."""

    transformer = "SD3Transformer2DModel"
    text = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "text_encoder_3", "tokenizer_3")
    optional = ("text_encoder_3", "tokenizer_3")
    kept = (
        "pos_embed",
        "time_text_embed",
        "context_embedder",
        "norm1",
        "norm1_context",
        "norm_out",
        "proj_out",
    )

    def encode(self, text: str) -> Encoded:
        """Encode one prompt for all text encoders."""
        tokens, _, pooled, _ = self.pipe.encode_prompt(text, None, None, do_classifier_free_guidance=False)
        return Encoded(self.pipe, tokens[0], pooled[0])

    def count(self, text: str) -> tuple[int, int]:
        """Count for T5, or for CLIP in a folder without T5."""
        if self.pipe.tokenizer_3 is None:
            return len(self.pipe.tokenizer(text).input_ids), self.pipe.tokenizer_max_length
        return len(self.pipe.tokenizer_3(text).input_ids), 256

    def arguments(self, rows: Sequence[Encoded], negatives: Sequence[Encoded], cfg: float) -> dict[str, Any]:
        """Stack the rows: every SD3 prompt has the same length."""
        return {
            "prompt_embeds": torch.stack([row.tokens for row in rows]),
            "pooled_prompt_embeds": torch.stack([row.pooled for row in rows if row.pooled is not None]),
            "negative_prompt_embeds": torch.stack([row.tokens for row in negatives]),
            "negative_pooled_prompt_embeds": torch.stack(
                [row.pooled for row in negatives if row.pooled is not None]
            ),
            "guidance_scale": cfg,
        }

    @property
    def largest(self) -> tuple[int, int]:
        """The transformer's table of positions, in latent pixels."""
        config = self.pipe.transformer.config
        return (config.pos_embed_max_size * config.patch_size,) * 2


class ErnieImage(Family):
    """Its guidance_scale is KSampler's cfg; its transformer sees latents in 2x2 patches, normalised per channel."""

    transformer = "ErnieImageTransformer2DModel"
    vae = "AutoencoderKLFlux2"
    kept = ("x_embedder", "text_proj", "time_embedding", "adaLN_modulation", "final_norm", "final_linear")

    def encode(self, text: str) -> Encoded:
        """Encode one prompt; its length stays its own."""
        return Encoded(self.pipe, self.pipe.encode_prompt([text], self.pipe.device)[0])

    def count(self, text: str) -> tuple[int, int]:
        """The limit is the tokenizer's."""
        return len(self.pipe.tokenizer(text).input_ids), self.pipe.tokenizer.model_max_length

    def arguments(self, rows: Sequence[Encoded], negatives: Sequence[Encoded], cfg: float) -> dict[str, Any]:
        """The prompt enhancer would rewrite the table's prompts: it stays off."""
        return {
            "prompt_embeds": [row.tokens for row in rows],
            "negative_prompt_embeds": [row.tokens for row in negatives],
            "guidance_scale": cfg,
            "use_pe": False,
        }

    def pack(self, latent: Tensor) -> Tensor:
        """[B, C, h, w] to [B, 4 C, h / 2, w / 2]."""
        mean, deviation = self._statistics(latent)
        patches: Tensor = self.pipe._patchify_latents(latent)
        return (patches - mean) / deviation

    def unpack(self, latent: Tensor) -> Tensor:
        """[B, 4 C, h / 2, w / 2] to [B, C, h, w]."""
        mean, deviation = self._statistics(latent)
        unpacked: Tensor = self.pipe._unpatchify_latents(latent * deviation + mean)
        return unpacked

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation, with the 1e-5 of the pipeline's own decoding instead of the autoencoder's config."""
        norm = self.pipe.vae.bn
        mean = norm.running_mean.to(like).view(1, -1, 1, 1)
        return mean, (norm.running_var.to(like).view(1, -1, 1, 1) + 1e-5).sqrt()


class ZImage(Family):
    """Its guidance_scale is KSampler's cfg less 1: it adds scale * (positive - negative) to the positive."""

    transformer = "ZImageTransformer2DModel"
    kept = ("x_embedder", "cap_embedder", "t_embedder", "adaLN_modulation", "final_layer")
    dtype = torch.float32

    def encode(self, text: str) -> Encoded:
        """Encode one prompt; the pipeline writes into the list that it is given, so it is given one of its own."""
        rows, _ = self.pipe.encode_prompt([text], do_classifier_free_guidance=False)
        return Encoded(self.pipe, rows[0])

    def count(self, text: str) -> tuple[int, int]:
        """The chat template counts as well."""
        messages = [{"role": "user", "content": text}]
        chat = self.pipe.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=True
        )
        return len(self.pipe.tokenizer(chat).input_ids), 512

    def arguments(self, rows: Sequence[Encoded], negatives: Sequence[Encoded], cfg: float) -> dict[str, Any]:
        """Lists, since each prompt has its own length."""
        return {
            "prompt_embeds": [row.tokens for row in rows],
            "negative_prompt_embeds": [row.tokens for row in negatives],
            "guidance_scale": cfg - 1,
        }

    @property
    def largest(self) -> tuple[int, int]:
        """The transformer's tables of positions, in latent pixels."""
        _, height, width = self.pipe.transformer.config.axes_lens
        return 2 * height, 2 * width


FAMILIES: dict[str, type[Family]] = {
    "StableDiffusion3Pipeline": StableDiffusion3,
    "ErnieImagePipeline": ErnieImage,
    "ZImagePipeline": ZImage,
}
