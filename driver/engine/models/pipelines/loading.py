"""From a diffusers folder to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from .....errors import CheckpointError, Problems
from ..checkpoint import Checkpoint
from .families import FAMILIES, Family
from .folder import AGAIN, problems, read_json, weight_problems
from .model import PipelineAutoencoder, PipelineModel, PipelineTextEncoder

PRECISIONS = ("auto", "fp32", "bf16", "fp8", "int8")


def load_pipeline(folder: Path, *, device: str, precision: str) -> Checkpoint:
    """
    Load a folder with a model_index.json: Stable Diffusion 3, ERNIE-Image or Z-Image.

    Only .safetensors weights are read, no code of the folder is run, nothing is downloaded. ERNIE-Image's prompt
    enhancer is not loaded.

    :param device: where torch computes: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    :param precision: ``fp32``; ``bf16``; ``fp8`` and ``int8``, which keep the transformer's linear layers in 8 bits
        and compute in bf16; ``auto`` is fp32 on the CPU and bf16 elsewhere.
    :raises CheckpointError: another pipeline or precision.
    :raises Problems: several files are missing, damaged or do not fit.
    """
    index = read_json(folder / "model_index.json")
    family = FAMILIES.get(index.get("_class_name", ""))
    if family is None:
        raise CheckpointError(
            "the engine does not know this pipeline",
            where=str(folder / "model_index.json"),
            value=index.get("_class_name"),
            hint=f"it knows {', '.join(FAMILIES)}; any other model needs ComfyUI",
        )
    if precision not in PRECISIONS:
        raise CheckpointError("no such precision", value=precision, hint=f"one of {', '.join(PRECISIONS)}")
    classes = _classes(folder, index, family)
    _check_files(folder, classes)
    if precision == "auto":
        precision = "fp32" if device == "cpu" else "bf16"
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    parts: dict[str, Any] = dict.fromkeys(family.optional)
    for name, kind in classes.items():
        options: dict[str, Any] = {}
        if _stem(name):
            options |= {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
        if name == "transformer" and precision == "int8":
            options["quantization_config"] = _int8(family)
        parts[name] = _part(kind, folder / name, options)
    if precision == "fp8":
        parts["transformer"].enable_layerwise_casting(
            storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype, skip_modules_pattern=family.kept
        )
    pipe = getattr(diffusers, index["_class_name"])(**parts).to(device)
    pipe.set_progress_bar_config(disable=True)
    loaded = family(pipe)
    return Checkpoint(PipelineModel(loaded), PipelineTextEncoder(loaded), PipelineAutoencoder(pipe.vae))


def _classes(folder: Path, index: dict[str, Any], family: type[Family]) -> dict[str, Any]:
    """Return the class of each part; the folder chooses those of the text encoders and tokenizers only."""
    classes: dict[str, Any] = {
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler,
        "vae": getattr(diffusers, family.vae),
        "transformer": getattr(diffusers, family.transformer),
    }
    for name in family.text:
        match index.get(name):
            case ["transformers", str(kind)] if hasattr(getattr(transformers, kind, None), "from_pretrained"):
                classes[name] = getattr(transformers, kind)
            case [None, None] if name in family.optional:
                pass
            case other:
                raise CheckpointError(
                    f"{name} should be a class of the installed transformers {transformers.__version__}",
                    where=str(folder / "model_index.json"),
                    value=other,
                    hint="code that comes with a model is never run; pip install -U transformers for a newer model",
                )
    return classes


def _check_files(folder: Path, classes: dict[str, Any]) -> None:
    found = Problems()
    for name in classes:
        stem = _stem(name)
        if name.startswith("tokenizer"):
            config = "tokenizer_config.json"
        else:
            config = "config.json" if stem else "scheduler_config.json"
        for problem in problems(folder / name, config):
            found.add(problem)
        if stem:
            for problem in weight_problems(folder / name, stem):
                found.add(problem)
    found.raise_if_any()


def _stem(part: str) -> str | None:
    """The name of a model's weights; None for what has no weights."""
    if part in {"transformer", "vae"}:
        return "diffusion_pytorch_model"
    return "model" if part.startswith("text_encoder") else None


def _int8(family: type[Family]) -> Any:
    try:
        from torchao.quantization import Int8WeightOnlyConfig
    except ImportError as error:
        raise CheckpointError("precision int8 needs torchao", hint="pip install torchao") from error
    return diffusers.TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=list(family.kept))


def _part(kind: Any, path: Path, options: dict[str, Any]) -> Any:
    try:
        part = kind.from_pretrained(path, local_files_only=True, **options)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a config that does not fit makes the libraries raise anything
        raise CheckpointError(f"this part cannot be loaded: {error}", where=str(path), hint=AGAIN) from error
    if not options:
        return part
    model, report = part
    if report["missing_keys"]:
        raise CheckpointError(
            "the weights lack tensors that the config asks for",
            where=str(path),
            value=", ".join(sorted(report["missing_keys"])),
            hint=AGAIN,
        )
    return model
