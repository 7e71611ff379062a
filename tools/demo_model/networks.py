"""The networks that are trained beside the autoencoder: SD3's transformer at the demo's size, word embeddings, a judge."""

from __future__ import annotations

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn

from ...driver.engine.models.text import LENGTH

HEADS = 3
WIDTH = 768
POSITIONS = 24
LATENT = 16


def transformer(heads: int = HEADS) -> SD3Transformer2DModel:
    """SD3's MMDiT; one layer per head, since ComfyUI reads the depth as width / 64."""
    return SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=LATENT,
        out_channels=LATENT,
        num_layers=heads,
        num_attention_heads=heads,
        attention_head_dim=64,
        caption_projection_dim=heads * 64,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=2048,
        pos_embed_max_size=POSITIONS,
        qk_norm="rms_norm",
    )


class Words(nn.Module):
    """CLIP-L as the demo uses it: token embedding plus position embedding; its blocks pass through."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.token = nn.Embedding(words, WIDTH)
        self.position = nn.Parameter(torch.zeros(LENGTH, WIDTH))
        nn.init.normal_(self.token.weight, std=0.5)
        nn.init.normal_(self.position, std=0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, 77] indices into the vocabulary to [B, 77, 768]."""
        return self.token(tokens) + self.position


class Judge(nn.Module):
    """A small classifier: what object, which colour, which background."""

    def __init__(self, classes: dict[str, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in (24, 48, 64, 96, 128):
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.1))
        self.heads = nn.ModuleDict({name: nn.Linear(4 * channels, count) for name, count in classes.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """[B, 3, 128, 128] in 0..1 to the logits of each question."""
        features = self.body(pixels * 2 - 1)
        return {name: head(features) for name, head in self.heads.items()}
