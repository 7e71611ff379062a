"""Which layers of a known diffusion model are quantized, and which are kept as they are."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

PREFIXES = ("model.diffusion_model.", "model.model.", "net.")
LEAST, ELSE = 6, "model."
"""So many tensors a prefix has; where none has, the diffusion model is under this one, else it has none."""


@dataclass(frozen=True)
class Architecture:
    """A family of diffusion models that ComfyUI knows by the names in its checkpoints."""

    name: str
    known_by: tuple[str, ...]
    """Tensors that all of its checkpoints have, without prefix."""
    layers: str
    """What the names of its quantized layers match, from the start."""
    kept: str = r"(?!)"
    """What kept layers within these match anywhere: few weights, on which every block depends."""
    weight_only: str = r"(?!)"
    """
    Layers that are too large to keep and whose input is a vector or two: their activations stay in high precision, but not in
    INT8, for which ComfyUI does not offer it.
    """

    def quantizes(self, layer: str) -> bool:
        """Whether a layer, named without the prefix, is quantized."""
        return bool(re.match(self.layers, layer)) and not re.search(self.kept, layer)

    def is_weight_only(self, layer: str) -> bool:
        """Whether only the weight of a layer is rounded."""
        return bool(re.search(self.weight_only, layer))


ARCHITECTURES = (
    Architecture("ernie-image", ("layers.0.mlp.linear_fc2.weight", "text_proj.weight"), r"layers\.\d+\."),
    Architecture(
        "lumina2",
        ("cap_embedder.1.weight", "noise_refiner.0.attention.k_norm.weight"),
        r"(layers|context_refiner|noise_refiner)\.\d+\.",
        kept=r"adaLN_modulation",
    ),
    # A third of SD3.5-large is adaLN; rounded or kept, images are as near (docs/quantization.md).
    Architecture(
        "sd3",
        ("joint_blocks.0.context_block.attn.qkv.weight",),
        r"joint_blocks\.\d+\.",
        weight_only=r"adaLN_modulation\.1$",
    ),
    # Chroma and Flux 2 too: their modulation is outside the blocks, and so kept.
    Architecture(
        "flux",
        ("double_blocks.0.img_attn.qkv.weight", "img_in.weight"),
        r"(double|single)_blocks\.\d+\.",
        weight_only=r"(img_mod|txt_mod|modulation)\.lin$",
    ),
    # Mage-Flow too.
    Architecture(
        "qwen-image",
        ("txt_norm.weight", "transformer_blocks.0.attn.add_q_proj.weight"),
        r"transformer_blocks\.\d+\.",
        weight_only=r"(img|txt)_mod\.1$",
    ),
    Architecture(
        "sdxl",
        ("label_emb.0.0.weight", "input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight"),
        r"(input_blocks|middle_block|output_blocks)\..*\.transformer_blocks\.\d+\.",
    ),
)

REPEATED_BLOCK = re.compile(r"(?:^|\.)\d+\.")
NOT_LINEAR = re.compile(r"emb|norm|moe\.gate$", re.IGNORECASE)
MODULATION = re.compile(r"adaln|(?:^|[._])mod(?!el|ule)", re.IGNORECASE)
READ_FOR_SIZES = re.compile(
    r"transformer_blocks\.0\.attn2\.to_k$|layers\.0\.self_attn\.to_qkv$|down_blocks\.1\.0\.channelwise\.0$"
)
"""Layers in blocks whose input features ComfyUI reads from the shape of the stored weight (0.33: model_detection.py)."""


def recognise(names: Collection[str]) -> tuple[Architecture | None, str]:
    """The architecture of a checkpoint's tensors, None when unknown, and the prefix of its diffusion model."""
    prefix = _prefix_of(names)
    for architecture in ARCHITECTURES:
        if all(prefix + name in names for name in architecture.known_by):
            return architecture, prefix
    return None, prefix


def _prefix_of(names: Collection[str]) -> str:
    """As ComfyUI finds it (0.33: model_detection.py, unet_prefix_from_state_dict)."""
    counts = {prefix: sum(name.startswith(prefix) for name in names) for prefix in PREFIXES}
    most = max(PREFIXES, key=lambda prefix: counts[prefix])
    prefix = most if counts[most] >= LEAST else ELSE
    return prefix if any(name.startswith(prefix) for name in names) else ""


def may_be_linear(layer: str) -> bool:
    """Whether the matrix of an unknown architecture's layer looks like that of a linear layer in a repeated block."""
    return bool(REPEATED_BLOCK.search(layer)) and not NOT_LINEAR.search(layer)


def is_modulation(layer: str) -> bool:
    """Whether an unknown architecture's layer modulates others, by its name: of such only the weight is rounded."""
    return bool(MODULATION.search(layer))
