"""How to quantize, and what this writes for a layer beside its weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ..errors import CheckpointError
from .checkpoint import MARK
from .formats import INT8, Format, Quantized, as_tensor
from .selection import Layer


@dataclass(frozen=True)
class Recipe:
    """How to quantize."""

    format: Format
    keep: tuple[str, ...] = ()
    """Further layers to keep: regular expressions that find something in a layer's name, without a checkpoint's prefix."""
    budget: float = 0.10
    """Of unknown architectures: share of the quantized size that kept layers may add."""
    activation_scales: Mapping[str, float] = field(default_factory=dict)
    """``input_scale`` of layers, by full name; not for INT8, which measures its inputs as it goes."""
    rounding: Callable[[str, torch.Tensor], Quantized | None] | None = None
    """Gets a layer's full name and its weight in fp32; returns a better rounding, or None: to the nearest."""

    def __post_init__(self) -> None:
        """:raises CheckpointError: the budget is no share."""
        if not 0 <= self.budget < 1:
            raise CheckpointError(
                "the budget is a share from 0 to below 1",
                where="--budget",
                value=self.budget,
                hint="--budget 0.1",
            )

    def config(self, layer: Layer) -> dict[str, Any]:
        """What ComfyUI's loader has to know of a layer."""
        weight_only = {"full_precision_matrix_mult": True} if self._weight_only(layer) else {}
        return {**self.format.config(layer.info.shape), **weight_only}

    def constants(self, layer: Layer) -> dict[str, torch.Tensor]:
        """The tensors of a layer that do not depend on its weight, by full name."""
        tensors = {layer.name + MARK: as_tensor(self.config(layer))}
        scale = self.activation_scales.get(layer.name)
        if scale is not None and not isinstance(self.format, INT8) and not self._weight_only(layer):
            tensors[f"{layer.name}.input_scale"] = torch.tensor(scale)
        return tensors

    def _weight_only(self, layer: Layer) -> bool:
        """ComfyUI ignores for INT8 that its activations should not be rounded."""
        return layer.weight_only and not isinstance(self.format, INT8)
