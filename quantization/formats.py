"""The number formats of a linear layer's weight: as ComfyUI stores them, computed by comfy-kitchen."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from comfy_kitchen import use_backend
from comfy_kitchen.registry import registry
from comfy_kitchen.tensor import (
    QuantizedLayout,
    TensorCoreFP8Layout,
    TensorCoreNVFP4Layout,
    TensorWiseINT8Layout,
)

from ..errors import CheckpointError

Shape = tuple[int, ...]
SMALLEST_SCALE = 1e-30
E4M3_MAX, E2M1_MAX = 448.0, 6.0


@dataclass(frozen=True)
class Quantized:
    """A weight in a format: what stands in the file for it."""

    tensors: Mapping[str, torch.Tensor]
    """By what follows the layer's name: ``weight``, ``weight_scale`` ..."""
    config: Mapping[str, Any]
    """What ComfyUI reads from ``<layer>.comfy_quant``."""


class Format(ABC):
    """A format that ComfyUI's loader knows."""

    name: ClassVar[str]
    layout: ClassVar[type[QuantizedLayout]]
    bits: ClassVar[float]
    """Of a weight's element, scales included where they grow with the weight."""

    @abstractmethod
    def fits(self, shape: Shape) -> bool:
        """Whether a weight (out features, in features) can be stored and multiplied in this format."""

    @abstractmethod
    def config(self, shape: Shape) -> dict[str, Any]:
        """What ComfyUI's loader has to know of a weight of this shape: ``format`` and its options."""

    @abstractmethod
    def plan(self, shape: Shape) -> dict[str, tuple[torch.dtype, Shape]]:
        """The tensors that `quantize` returns for a weight of this shape."""

    @abstractmethod
    def parameters(self, weight: torch.Tensor) -> dict[str, Any]:
        """What comfy-kitchen's layout needs to quantize this weight."""

    @abstractmethod
    def load(self, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any], shape: Shape) -> Any:
        """The layout's parameters of a stored weight."""

    def in_fp32(self) -> AbstractContextManager[None]:
        """While open, the layout quantizes fp32 on any device."""
        return nullcontext()

    def quantize(self, weight: torch.Tensor) -> Quantized:
        """
        Round a weight to the nearest.

        :param weight: (out features, in features) in fp32: bf16 would cost accuracy (1.10 for 1.02 % on INT8).
        :raises CheckpointError: the weight holds NaN or infinity.
        """
        if not torch.isfinite(weight).all():
            raise CheckpointError(
                "the weight holds NaN or infinity", hint="load the checkpoint from its source again"
            )
        with self.in_fp32():
            data, params = self.layout.quantize(weight, **self.parameters(weight))
        stored = self.layout.state_dict_tensors(data, params)
        return Quantized(
            {f"weight{suffix}": tensor for suffix, tensor in stored.items()}, self.config(tuple(weight.shape))
        )

    def dequantize(self, quantized: Quantized, shape: Shape) -> torch.Tensor:
        """The fp32 weight (out features, in features) that is computed with."""
        params = self.load(quantized.tensors, quantized.config, shape)
        whole: torch.Tensor = self.layout.dequantize(quantized.tensors["weight"], params)
        return whole[: shape[0], : shape[1]]


class FP8(Format):
    """E4M3 with one scale a weight, amax / 448."""

    name = "fp8"
    layout = TensorCoreFP8Layout
    bits = 8.0

    def fits(self, shape: Shape) -> bool:
        """Tensor cores multiply FP8 in multiples of 16."""
        return len(shape) == 2 and shape[0] % 16 == 0 and shape[1] % 16 == 0

    def config(self, shape: Shape) -> dict[str, Any]:
        """``float8_e4m3fn``."""
        return {"format": "float8_e4m3fn"}

    def plan(self, shape: Shape) -> dict[str, tuple[torch.dtype, Shape]]:
        """A byte an element and a scale."""
        return {"weight": (torch.float8_e4m3fn, shape), "weight_scale": (torch.float32, ())}

    def parameters(self, weight: torch.Tensor) -> dict[str, Any]:
        """The scale."""
        return {"scale": (weight.abs().amax() / E4M3_MAX).clamp(min=SMALLEST_SCALE)}

    def load(self, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any], shape: Shape) -> Any:
        """Scale and shape."""
        return self.layout.Params(scale=tensors["weight_scale"], orig_dtype=torch.float32, orig_shape=shape)


class INT8(Format):
    """
    INT8 with a scale for each output channel, after a rotation of the input channels that spreads outliers.

    The rotation (ConvRot, arXiv 2512.03673) is a regular Hadamard matrix of a group of channels; ComfyUI rotates the activations
    as it goes. The group is the largest of 256, 64 and 16 that divides the input features: comfy-kitchen's fused kernel
    exists for 256 only.
    """

    name = "int8"
    layout = TensorWiseINT8Layout
    bits = 8.0

    def fits(self, shape: Shape) -> bool:
        """INT8 is multiplied in multiples of 8; a rotation needs 16."""
        return len(shape) == 2 and shape[0] % 8 == 0 and shape[1] % 16 == 0

    def config(self, shape: Shape) -> dict[str, Any]:
        """``int8_tensorwise``, with the group."""
        return {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": rotation_group(shape[1])}

    def plan(self, shape: Shape) -> dict[str, tuple[torch.dtype, Shape]]:
        """A byte an element and a scale a row."""
        return {"weight": (torch.int8, shape), "weight_scale": (torch.float32, (shape[0], 1))}

    def parameters(self, weight: torch.Tensor) -> dict[str, Any]:
        """A scale a row, and the rotation."""
        return {"per_channel": True, "convrot": True, "convrot_groupsize": rotation_group(weight.shape[1])}

    def load(self, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any], shape: Shape) -> Any:
        """Scales, rotation and shape."""
        return self.layout.Params(
            scale=tensors["weight_scale"],
            orig_dtype=torch.float32,
            orig_shape=shape,
            convrot=config.get("convrot", False),
            convrot_groupsize=config.get("convrot_groupsize", 256),
        )


class NVFP4(Format):
    """E2M1 with an E4M3 scale for 16 elements and one scale a weight: computed natively from Blackwell (10.0) on."""

    name = "nvfp4"
    layout = TensorCoreNVFP4Layout
    bits = 4.5

    def in_fp32(self) -> AbstractContextManager[None]:
        """The CUDA kernel takes bf16 and fp16 only, though comfy-kitchen would choose it."""
        whole: AbstractContextManager[None] = use_backend("eager")
        return whole

    def fits(self, shape: Shape) -> bool:
        """Tensor cores multiply it in multiples of 32."""
        return len(shape) == 2 and shape[0] % 32 == 0 and shape[1] % 32 == 0

    def config(self, shape: Shape) -> dict[str, Any]:
        """``nvfp4``."""
        return {"format": "nvfp4"}

    def plan(self, shape: Shape) -> dict[str, tuple[torch.dtype, Shape]]:
        """Half a byte an element, and the scales in the tiles of 128 x 4 that cuBLAS reads."""
        rows, columns = shape
        return {
            "weight": (torch.uint8, (rows, columns // 2)),
            "weight_scale": (torch.float8_e4m3fn, (-(-rows // 128) * 128, -(-columns // 64) * 4)),
            "weight_scale_2": (torch.float32, ()),
        }

    def parameters(self, weight: torch.Tensor) -> dict[str, Any]:
        """The scale of the scales."""
        return {"scale": (weight.abs().amax() / (E4M3_MAX * E2M1_MAX)).clamp(min=SMALLEST_SCALE)}

    def load(self, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any], shape: Shape) -> Any:
        """Both scales and the shape."""
        return self.layout.Params(
            scale=tensors["weight_scale_2"],
            block_scale=tensors["weight_scale"],
            orig_dtype=torch.float32,
            orig_shape=shape,
        )


FORMATS: dict[str, Format] = {fmt.name: fmt for fmt in (FP8(), INT8(), NVFP4())}


def rotation_group(features: int) -> int:
    """The largest rotation that divides a number of input features, a power of 4."""
    return next(group for group in (256, 64, 16) if features % group == 0)


def rotated(matrix: torch.Tensor, group: int) -> torch.Tensor:
    """
    The columns of a matrix in groups times ConvRot's regular Hadamard matrix, which is symmetric: twice is not at all.

    comfy-kitchen would choose its CUDA kernel for any matrix, but that rotates by 256 only, and only what is contiguous.
    """
    rotate = registry.get_implementation(
        "rotate_int8_convrot_weight",
        backend=None if group == 256 else "eager",
        kwargs={"weight": matrix, "group_size": group},
    )
    found: torch.Tensor = rotate(matrix.contiguous(), group)
    return found


def as_tensor(config: Mapping[str, Any]) -> torch.Tensor:
    """A layer's configuration as ``comfy_quant`` holds it: JSON in bytes."""
    return torch.tensor(list(json.dumps(config).encode()), dtype=torch.uint8)


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The Frobenius norm of the difference to that of ``wanted``."""
    error, norm = (torch.linalg.vector_norm(x, dtype=torch.float64).item() for x in (found - wanted, wanted))
    return error / norm if norm else 0.0
