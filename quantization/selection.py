"""Which layers of a source are quantized, and why the others are kept."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch

from ..errors import CheckpointError
from .architectures import PREFIXES, READ_FOR_SIZES, Architecture, is_modulation, may_be_linear, recognise
from .checkpoint import Source, TensorInfo, quantization_of
from .formats import FORMATS, Format

WEIGHT = ".weight"
FLOATS = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
CUT_WHEN_LOADED = (
    ("joint_transformer_blocks.0.attn.add_k_proj.weight",),
    ("adaln_single.emb.timestep_embedder.linear_1.bias", "pos_embed.proj.bias"),
    ("noise_refiner.0.attention.norm_k.weight",),
    ("x_embedder.weight", "transformer_blocks.0.attn.to_q.weight"),
    ("transformer_blocks.0.attn.add_q_proj.weight", "pos_embed.proj.weight"),
    ("conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"),
    ("core.pixel_embedder.proj.weight",),
)
"""Tensors of files whose weights ComfyUI cuts and joins when it loads them (0.33: model_detection.py, sd.py, supported_models.py)."""
LORA = re.compile(r"\.(lora_(up|down|[AB])|lora\.(up|down))\.")
PART = re.compile(r"-(\d{5})-of-(?!00001)(\d{5})\.[^/\\]*$")
OTHERS = {
    "a ControlNet": re.compile(
        r"(control_model|control_blocks|control_layers|zero_convs|input_hint_block)\.|controlnet_|lora_controlnet"
    ),
    "a text encoder": re.compile(
        r"(transformer\.)?(text_model\.|encoder\.block\.|shared\.weight$|(model\.)?embed_tokens\.weight$)"
    ),
    "a VAE": re.compile(
        r"(first_stage_model\.)?(encoder|decoder)"
        r"\.(conv_in|conv1|mid|mid_block|middle|up|down|up_blocks|down_blocks|upsamples|downsamples)\."
    ),
}
"""What the names of a file that is no diffusion model start with."""
DOES_NOT_FIT = "its shape does not fit"


@dataclass(frozen=True)
class Layer:
    """A weight that could be quantized, and what is to become of it."""

    name: str
    """With the prefix of a whole checkpoint, without ``.weight``."""
    info: TensorInfo
    why_kept: str = ""
    weight_only: bool = False


def select(
    source: Source, where: str, fmt: Format, keep: Collection[str]
) -> tuple[Architecture | None, list[Layer]]:
    """
    The architecture, None when unknown, and all weights of the diffusion model that are matrices or more.

    :param where: the source, as errors name it.
    :param keep: regular expressions; what they find anywhere in a layer's name, without prefix, is kept.
    :raises CheckpointError: this cannot be quantized, or nothing would be.
    """
    if not source.names:
        raise CheckpointError("the file holds no tensors", where=where, hint="take a diffusion model")
    architecture, prefix = recognise(source.names)
    _check(source, where, prefix, architecture)
    patterns = [_compiled(pattern) for pattern in keep]
    layers = []
    for name, info in source.names.items():
        if name.startswith(prefix) and name.endswith(WEIGHT) and len(info.shape) > 1:
            layer = name.removeprefix(prefix).removesuffix(WEIGHT)
            why = _why_kept(layer, info, architecture, fmt, patterns)
            weight_only = architecture.is_weight_only(layer) if architecture else is_modulation(layer)
            layers.append(Layer(prefix + layer, info, why, weight_only))
    for pattern in patterns:
        if not any(pattern.search(layer.name.removeprefix(prefix)) for layer in layers):
            raise CheckpointError(
                "--keep finds no layer",
                where=where,
                value=pattern.pattern,
                hint=f"one is {layers[-1].name.removeprefix(prefix)}",
            )
    if not any(layer.why_kept == "" for layer in layers):
        raise _nothing_left(layers, where)
    return architecture, layers


def keep_worst(
    layers: Iterable[Layer], errors: Mapping[str, float], after: Mapping[str, int], budget: float
) -> list[Layer]:
    """
    Keep the layers whose measured error is largest, as many as the budget allows.

    :param errors: of the layers that would be quantized.
    :param after: their bytes when quantized.
    :param budget: bytes that kept layers may add, as a share of all those bytes.
    """
    left = budget * sum(after.values())
    sizes = {layer.name: layer.info.nbytes for layer in layers}
    kept = set()
    for name in sorted(errors, key=lambda name: -errors[name]):
        more = sizes[name] - after[name]
        if more <= left:
            left -= more
            kept.add(name)
    return [
        Layer(layer.name, layer.info, f"among the worst measured, within {budget:.0%} of the size")
        if layer.name in kept
        else layer
        for layer in layers
    ]


def _why_kept(
    layer: str,
    info: TensorInfo,
    architecture: Architecture | None,
    fmt: Format,
    keep: Iterable[re.Pattern[str]],
) -> str:
    if architecture is None and not may_be_linear(layer):
        return "not a linear layer of a repeated block, by its name"
    if architecture is not None and not architecture.quantizes(layer):
        return f"kept in {architecture.name}"
    if 0 in info.shape:
        return "empty"
    for pattern in keep:
        if pattern.search(layer):
            return f"--keep {pattern.pattern}"
    if len(info.shape) != 2:
        return "not a matrix"
    if info.dtype not in FLOATS:
        return f"its dtype is {str(info.dtype).removeprefix('torch.')}"
    if not fmt.fits(info.shape):
        return f"{DOES_NOT_FIT} {fmt.name}"
    if READ_FOR_SIZES.search(layer) and fmt.plan(info.shape)["weight"][1] != info.shape:
        return "ComfyUI reads the model's size from it"
    return ""


def _nothing_left(layers: list[Layer], where: str) -> CheckpointError:
    reasons = sorted({layer.why_kept for layer in layers})
    misfits = [layer.info.shape for layer in layers if layer.why_kept.startswith(DOES_NOT_FIT)]
    others = [name for name, fmt in FORMATS.items() if any(map(fmt.fits, misfits))]
    if misfits:
        hint = f"--format {others[0]}" if others else "load the model as it is: no format fits"
    elif any(reason.startswith("--keep") for reason in reasons):
        hint = "keep fewer layers: --keep finds its pattern anywhere in a name"
    else:
        hint = "take a diffusion model"
    return CheckpointError(
        "there is no layer to quantize" + (f": {'; '.join(reasons)}" if reasons else ""),
        where=where,
        value=" x ".join(map(str, misfits[0])) if misfits else None,
        hint=hint,
    )


def _check(source: Source, where: str, prefix: str, architecture: Architecture | None) -> None:
    if part := PART.search(where):
        raise CheckpointError(
            f"this is part {int(part[1])} of {int(part[2])} of a model",
            where=where,
            hint="take the model as one file, or join its parts",
        )
    for what, known in OTHERS.items():
        if prefix not in PREFIXES and (found := next(filter(known.match, source.names), None)):
            raise CheckpointError(
                f"this is {what}; ComfyUI's loaders of diffusion models do not take it",
                where=where,
                value=found,
                hint="take a diffusion model",
            )
    done = [fmt for layer, fmt in quantization_of(source).items() if layer.startswith(prefix)]
    if done:
        counts = ", ".join(f"{done.count(fmt)} layers in {fmt}" for fmt in sorted(set(done)))
        raise CheckpointError(
            f"this is quantized already: {counts}",
            where=where,
            hint="load it as it is, or convert the BF16 file of this model",
        )
    if cast := weights_in_fp8(source, prefix):
        raise CheckpointError(
            f"{len(cast)} weights are in FP8 already, so what they lost is lost",
            where=where,
            value=cast[0],
            hint="convert the BF16 file of this model",
        )
    if architecture is None and any(
        all(prefix + name in source.names for name in known) for known in CUT_WHEN_LOADED
    ):
        raise CheckpointError(
            "this file is in the format of diffusers or of the model's makers: ComfyUI cuts and joins its weights, "
            "which quantized ones do not survive",
            where=where,
            hint="take the file for ComfyUI, or load this one there and save it with the node ModelSave",
        )
    if any(LORA.search(name) for name in source.names):
        raise CheckpointError(
            "this is a LoRA", where=where, hint="convert the model, then load the LoRA on it"
        )


def weights_in_fp8(source: Source, prefix: str) -> list[str]:
    """The diffusion model's matrices in FP8, as files have them whose weights were only cast."""
    return [
        name
        for name, info in source.names.items()
        if name.startswith(prefix)
        and len(info.shape) == 2
        and info.dtype.itemsize == 1
        and info.dtype.is_floating_point
    ]


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise CheckpointError(
            f"this is no regular expression: {error}",
            where="--keep",
            value=pattern,
            hint=r"--keep 'layers\.0\.'",
        ) from error


def sizes_after(layers: Iterable[Layer], fmt: Format) -> dict[str, int]:
    """The bytes that each quantized layer takes, scales included."""
    return {
        layer.name: sum(TensorInfo(*stored).nbytes for stored in fmt.plan(layer.info.shape).values())
        for layer in layers
        if not layer.why_kept
    }


def size_after(source: Source, layers: Iterable[Layer], fmt: Format) -> int:
    """The bytes of all tensors, those of each quantized layer as it will be."""
    after = sizes_after(layers, fmt)
    weights = {layer + WEIGHT for layer in after}
    return sum(after.values()) + sum(
        info.nbytes for name, info in source.names.items() if name not in weights
    )
