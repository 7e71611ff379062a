"""Why rows must be sampled one at a time: what decides over a whole batch, or is not known not to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from .padding import ACCELERATED

Conditioning = Sequence[Sequence[Any]]
"""ComfyUI's CONDITIONING: entries of a tensor and a dictionary."""

ALONE = {
    "control": "ControlNet",
    "area": "an area",
    "mask": "a mask",
    "strength": "a strength",
    "hooks": "hooks",
    "gligen": "GLIGEN",
    "reference_latents": "reference latents",
    "start_percent": "a range of steps",
    "end_percent": "a range of steps",
    "clip_start_percent": "a range of steps",
    "clip_end_percent": "a range of steps",
    "default": "a default conditioning",
}
"""Key of a conditioning to what it is."""

PER_ROW = {
    "RescaleCFG.patch.<locals>.rescale_cfg",
    "CFGNorm.execute.<locals>.cfg_norm",
    "CFGNorm.execute.<locals>.cfg_norm_pre",
    "CFGZeroStar.execute.<locals>.cfg_zero_star",
    "EpsilonScaling.execute.<locals>.epsilon_scaling_function",
    "DifferentialDiffusion.execute.<locals>.<lambda>",
}
"""Functions of ComfyUI's own nodes that look at each row by itself, as tests/sampling measures."""

WRAPPERS = {"torch.compile", ACCELERATED}
"""Keys of wrappers that change no result."""

HARMLESS = {"disable_cfg1_optimization", "torch_compile_kwargs", "to_load_options", "multigpu_options"}
HARMLESS_OBJECTS = {"model_sampling", "latent_format", "manual_cast_dtype"}
HARMLESS_TRANSFORMER = {"wrappers", "callbacks", "rope_options"}


def why_row_alone(*conditionings: Conditioning) -> str:
    """Why a row with these conditionings shares no batch; empty when it may."""
    for entries in conditionings:
        if len(entries) != 1:
            return f"a conditioning of {len(entries)} entries"
        for key, value in entries[0][1].items():
            if key in ALONE and value is not None:
                return ALONE[key]
    return ""


def why_model_alone(model: Any) -> str:
    """Why no rows share a batch on this ModelPatcher; empty when they may.

    A wrapper, a patch or a function that something installed on the model may look at the whole batch (EasyCache skips a
    step by the batch's mean): only those measured not to are let through.
    """
    options = dict(model.model_options)
    transformer = options.pop("transformer_options", {})
    for kind, by_key in chain(model.wrappers.items(), transformer.get("wrappers", {}).items()):
        if any(wrappers for key, wrappers in by_key.items() if key not in WRAPPERS):
            return f"something on the model wraps {kind}"
    for name, value in transformer.items():
        empty = isinstance(value, (dict, list)) and not value
        if name not in HARMLESS_TRANSFORMER and not empty:
            return f"something on the model set {name}"
    for name, value in options.items():
        functions = value if isinstance(value, list) else [value]
        per_row = all(getattr(function, "__qualname__", "") in PER_ROW for function in functions)
        if name not in HARMLESS and not per_row:
            return f"something on the model set {name}"
    if any(model.injections.values()):
        return "something is injected into the model"
    for name in model.object_patches:
        if name not in HARMLESS_OBJECTS:
            return f"something on the model replaced {name}"
    return ""
