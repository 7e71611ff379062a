"""A block's code with plain tensors in place of ComfyUI's layers, shared by all blocks that are alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from comfy import ops
from comfy.ldm.modules.diffusionmodules import mmdit

from .linear import LastInput, Linear

NORMS = (torch.nn.RMSNorm, torch.nn.LayerNorm)
SIMPLE = (bool, int, float, str, tuple, type(None))
NUMBERS = ("seed_key", "layer_id")
"""Attributes that only say which of the blocks it is."""
INTERNAL = ("_", "comfy_", "prev_comfy_")
"""How attributes begin that PyTorch, or ComfyUI while it loads weights, keeps for itself."""
FP8_LAYOUTS = ("TensorCoreFP8Layout", "TensorCoreFP8E4M3Layout", "TensorCoreFP8E5M2Layout")
INT8_LAYOUT = "TensorWiseINT8Layout"
LAYERS = (ops.CastWeightBiasOp, mmdit.RMSNorm)
"""Modules with weights; SD3's norm casts its weight itself."""


class Unsupported(Exception):
    """A block has a layer that is not ComfyUI's own, or weights of a type that is not known here."""


def layers_of(block: Any) -> Iterator[tuple[str, Any]]:
    """
    The layers of a block whose weights ComfyUI casts, by name.

    :raises Unsupported: ComfyUI has its own way to multiply with a layer's weights.
    """
    for name, module in block.named_modules():
        if not isinstance(module, LAYERS):
            if module._parameters or module._buffers:
                raise Unsupported(f"{name or 'the block'} has weights of its own")
        elif type(module) is not mmdit.RMSNorm and (
            type(module).__module__ != ops.__name__ or not (is_linear(module) or isinstance(module, NORMS))
        ):
            raise Unsupported(f"{name} is a {type(module).__module__}.{type(module).__qualname__}")
        elif module.weight is not None:
            layout = getattr(module.weight, "_layout_cls", FP8_LAYOUTS[0])
            if layout not in (*FP8_LAYOUTS, INT8_LAYOUT):
                raise Unsupported(
                    f"{layout.removeprefix('TensorCore').removesuffix('Layout')} is not compiled"
                )
            if module.weight.dtype.itemsize == 1:
                raise Unsupported(f"{name} holds {module.weight.dtype} without a scale")
            yield name, module


def is_linear(layer: Any) -> bool:
    """Whether it is one of ComfyUI's classes of that name, of which one is no torch.nn.Linear."""
    return type(layer).__name__ == "Linear"


def shadow_of(module: Any, last: LastInput) -> Any:
    """A copy without weights: its ``Linear`` and norms are given theirs before each call."""
    if isinstance(module, ops.CastWeightBiasOp) and is_linear(module):
        return Linear(last)
    copy = object.__new__(type(module))
    kept = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_v") and name != "forward"  # left by ComfyUI where an object patch was
    }
    children = {name: child and shadow_of(child, last) for name, child in module._modules.items()}
    vars(copy).update(kept, _modules=children)
    if isinstance(module, LAYERS):
        own = {"weight_function": [], "bias_function": [], "comfy_cast_weights": False}
        vars(copy).update(own, _parameters={}, weight=None, bias=None)
    return copy


def settings_of(module: Any) -> dict[str, Any]:
    """The values that a module's code works with, besides its weights."""
    if isinstance(module, ops.CastWeightBiasOp):
        return {
            name: getattr(module, name) for name in (() if is_linear(module) else ("normalized_shape", "eps"))
        }
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, SIMPLE) and not name.startswith(INTERNAL) and name not in NUMBERS
    }


def likeness(module: Any) -> Any:
    """What two blocks must have in common to share their code."""
    settings = tuple(sorted(settings_of(module).items()))
    if isinstance(module, ops.CastWeightBiasOp):
        return "linear" if is_linear(module) else (type(module).__qualname__, settings, module.weight is None)
    children = tuple((name, child and likeness(child)) for name, child in module._modules.items())
    return type(module), settings, children
