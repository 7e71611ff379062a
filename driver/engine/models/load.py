"""From what lies in the models folder to a checkpoint."""

from __future__ import annotations

from pathlib import Path

from ....errors import CheckpointError
from .. import demo
from .checkpoint import COMFYUI_SCALES, Checkpoint


def load(source: Path | str, *, device: str = "auto", precision: str = "auto") -> Checkpoint:
    """
    Load a diffusers folder, the demo checkpoint by its name, or a file that was exported from it.

    :param device: ``auto`` takes the GPU if there is one.
    :param precision: ``auto``, ``fp32``, ``bf16``, ``fp8``, ``int8``; single files are always fp32.
    :raises CheckpointError: there is no such file, it is damaged, or it is of another kind.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    from .pipelines import load_pipeline
    from .sd3 import load_sd3

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    path = demo.PATH if source == demo.NAME else Path(source)
    if path.is_dir():
        return load_pipeline(path, device=device, precision=precision)
    if not path.is_file():
        raise CheckpointError("there is no such checkpoint", where=path.name)
    try:
        with safe_open(path, "pt") as file:
            names, metadata = list(file.keys()), file.metadata() or {}
    except SafetensorError as error:
        raise CheckpointError(
            f"not a whole .safetensors file: {error}", where=path.name, hint="copy or download it again"
        ) from error
    if "_quantization_metadata" in metadata or any(name.endswith(COMFYUI_SCALES) for name in names):
        raise CheckpointError(
            "the file is quantized for ComfyUI; without its scales the pictures would be noise",
            where=path.name,
            hint="run it on ComfyUI, or use the unquantized model with --precision fp8 or int8",
        )
    try:
        return load_sd3(path, device)
    except (AttributeError, KeyError, RuntimeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise CheckpointError(
            f"the file is not a checkpoint of the demo's shape: {error}", where=path.name
        ) from error
