"""Which file is loaded for a model and a precision: itself, or its conversion from the cache; and what is told of it."""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import comfy.model_management
import folder_paths
import torch
from comfy.model_detection import model_config_from_unet
from comfy.utils import ProgressBar
from comfy_api.latest import io

from ..errors import CheckpointError
from ..quantization.cache import Cache
from ..quantization.hardware import AS_IT_IS, FORMATS, Choice, best_format, runs, this_device
from ..quantization.report import readable_size
from .progress_text import say

AUTOMATIC = "auto"
CACHE = "promptmill_cache"
"""The folder below ComfyUI's models, and the category under which extra_model_paths.yaml may name another one."""
CONVERTIBLE = (".safetensors", ".sft")
OURS = {"float8_e4m3fn": "fp8", "float8_e5m2": "fp8", "int8_tensorwise": "int8"}
"""ComfyUI's names of formats, where they are not ours."""

LOADED: WeakKeyDictionary[Any, Path] = WeakKeyDictionary()
"""The converted files of the models that are there: the cache keeps them."""


class Loadable(NamedTuple):
    """A file for ComfyUI's loader, and what the node tells of it."""

    path: Path
    info: str


def precision_input() -> io.Combo.Input:
    """The choice that both loaders have."""
    return io.Combo.Input(
        "precision",
        options=[AUTOMATIC, AS_IT_IS, *FORMATS],
        tooltip="auto: fp8 on cards that compute in it (RTX 40 and newer), int8 on older NVIDIA cards that the model does not fit, "
        "else as it is. The first use converts the file once; later ones load it from the cache.",
    )


def loadable(path: Path, precision: str, node_id: str) -> Loadable:
    """
    The file to load, converted now where that was not done before.

    :param precision: one of the options of `precision_input`.
    :raises CheckpointError: the file is damaged, or cannot be converted; it stays as it is.
    """
    if path.suffix.lower() not in CONVERTIBLE and precision in (AUTOMATIC, AS_IT_IS):
        return Loadable(path, f"{path.name}: loaded as it is, only .safetensors files are converted")
    from ..quantization.architectures import recognise
    from ..quantization.checkpoint import Checkpoint, quantization_of
    from ..quantization.formats import FORMATS as KITCHEN
    from ..quantization.selection import select, size_after, weights_in_fp8

    source = Checkpoint(path)
    device = this_device(comfy.model_management.get_torch_device())
    title = f"{path.name}, {readable_size(path.stat().st_size)}"
    architecture, prefix = recognise(source.names)
    formats = Counter(fmt for layer, fmt in quantization_of(source).items() if layer.startswith(prefix))
    if formats:
        told = ["loaded as it is, quantized already", title]
        for name, count in formats.items():
            told.append(f"{count} layers in {OURS.get(name, name)}{_run(OURS.get(name, name), device)}")
        return Loadable(path, "\n".join(told))
    if cast := weights_in_fp8(source, prefix):
        told = [f"loaded as it is, {len(cast)} weights are in FP8 already", title]
        return Loadable(path, "\n".join(told))
    weights = 2 * sum(math.prod(t.shape) for name, t in source.names.items() if name.startswith(prefix))
    best = best_format(device, weights)
    choice = best if precision == AUTOMATIC else Choice(precision, "as chosen")
    better = [f"better on this device: {best.format} ({best.why})"] if best.format != choice.format else []
    if choice.format == AS_IT_IS:
        return Loadable(path, "\n".join([f"loaded as it is ({choice.why})", *better, title]))
    try:
        _, layers = select(source, path.name, KITCHEN[choice.format], ())
        if architecture is None:
            _check_known(source, prefix, path.name)
    except CheckpointError as error:
        if precision != AUTOMATIC:
            raise
        return Loadable(path, f"loaded as it is, {error.message}\n{title}")
    size = size_after(source, layers, KITCHEN[choice.format])
    converted, report = _converted(path, source, choice.format, size, Teller(node_id))
    run = runs(choice.format, device)
    told = [
        f"loaded as {choice.format} ({choice.why}), runs {run.how} here",
        *better,
        report,
        f"on {device}: {run.why}",
        f"{title} -> {converted.name}, {readable_size(converted.stat().st_size)}",
    ]
    return Loadable(converted, "\n".join(told))


def _check_known(source: Any, prefix: str, where: str) -> None:
    """
    Ask ComfyUI before a file of an architecture that is not known here is converted.

    :raises CheckpointError: ComfyUI does not know it either.
    """
    shapes = {
        name: torch.empty(info.shape, dtype=info.dtype, device="meta") for name, info in source.names.items()
    }
    if model_config_from_unet(shapes, prefix, metadata=source.metadata) is None:
        raise CheckpointError(
            "ComfyUI does not know this model", where=where, hint="take the file of the model for ComfyUI"
        )


def cache_folder() -> Path:
    """PROMPTMILL_CACHE, else what extra_model_paths.yaml says, else ``models/promptmill_cache``."""
    listed = folder_paths.folder_names_and_paths.get(CACHE)
    default = listed[0][0] if listed else Path(folder_paths.models_dir, CACHE)
    return Path(os.environ.get("PROMPTMILL_CACHE") or default)


class Teller:
    """How far it is, on the node; a conversion that the user cancels ends here."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._bar = ProgressBar(100, node_id)
        self._told = ""

    def __call__(self, what: str, share: float) -> None:
        """
        :param share: of what is to be done, 0 to 1.
        :raises InterruptProcessingException: the user has cancelled.
        """
        comfy.model_management.throw_exception_if_processing_interrupted()
        text = f"{what}: {share:.0%}" if share else what
        if text != self._told:
            self._told = text
            self._bar.update_absolute(int(share * 100))
            say(text, self._node_id)


def _converted(path: Path, source: Any, format: str, size: int, teller: Teller) -> tuple[Path, str]:
    from ..quantization.convert import Recipe, convert
    from ..quantization.formats import FORMATS as KITCHEN

    def make(target: Path) -> dict[str, Any]:
        recipe = Recipe(KITCHEN[format])
        report = convert(
            source, target, recipe, lambda now: teller(f"converting to {format}", now.done / now.total)
        )
        errors = sorted(layer.error or 0 for layer in report.quantized)
        kept = [f"{count} layers {why}" for why, count in report.kept.items()]
        return {
            "text": f"{len(errors)} layers in {format}, {readable_size(sum(layer.before for layer in report.quantized))} -> "
            f"{readable_size(sum(layer.after for layer in report.quantized))}, relative error of the weights {errors[len(errors) // 2]:.1%} in the middle, "
            f"{errors[-1]:.1%} at most\nkept as they were: {'; '.join(kept) or 'none'}"
        }

    cache = Cache(cache_folder())
    in_use = set(LOADED.values())
    found, entry = cache.get(path, {"format": format}, make, size=size, in_use=in_use, tick=teller)
    return found, entry.report["text"]


def _run(format: str, device: Any) -> str:
    if format not in FORMATS:
        return ""
    run = runs(format, device)
    return f", which runs {run.how} on {device}: {run.why}"
