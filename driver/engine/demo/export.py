"""The demo checkpoint as the full single file that ComfyUI's CheckpointLoaderSimple loads."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ....errors import OutputError
from ..models.sd3 import MODEL, POOLED, TEXT, VOCABULARY
from ..models.text import Vocabulary
from . import NAME, PATH

WIDTH, LAYERS, WORDS, CONTEXT = 768, 12, 49408, 4096


def export(folder: Path) -> Path:
    """
    Write the full checkpoint, 260 MB in fp16, into a folder, and return its path.

    Everything added is zero, or one where a layer norm multiplies: CLIP-L's blocks then pass their input through.

    :raises OutputError: the folder cannot be written.
    """
    with safe_open(PATH, "pt") as file:
        metadata = file.metadata()
    vocabulary = Vocabulary(json.loads(metadata[VOCABULARY]))
    tensors = load_file(PATH)
    tensors |= _text_encoder(vocabulary, tensors)
    embedder = f"{MODEL}context_embedder.weight"
    hidden = len(tensors[embedder])
    tensors[embedder] = torch.nn.functional.pad(tensors[embedder], (0, CONTEXT - WIDTH))
    tensors[f"{MODEL}y_embedder.mlp.0.weight"] = torch.zeros(hidden, POOLED, dtype=torch.float16)
    path = folder / NAME
    part = folder / f".promptmill-{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, part, metadata=metadata)
        part.chmod(0o644)
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write the checkpoint: {error}", where=str(folder)) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def _text_encoder(vocabulary: Vocabulary, small: dict[str, Tensor]) -> dict[str, Tensor]:
    name = f"{TEXT}embeddings.token_embedding.weight"
    embedding = torch.zeros(WORDS, WIDTH, dtype=torch.float16)
    embedding[vocabulary.all_ids()] = small[name]
    half = {
        name: embedding,
        f"{TEXT}final_layer_norm.weight": torch.zeros(WIDTH),
        f"{TEXT}final_layer_norm.bias": torch.zeros(WIDTH),
    }
    for layer in range(LAYERS):
        block = f"{TEXT}encoder.layers.{layer}"
        linear = {f"self_attn.{part}_proj": (WIDTH, WIDTH) for part in ("q", "k", "v", "out")}
        linear |= {"mlp.fc1": (4 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 4 * WIDTH)}
        for part, (outputs, inputs) in linear.items():
            half[f"{block}.{part}.weight"] = torch.zeros(outputs, inputs)
            half[f"{block}.{part}.bias"] = torch.zeros(outputs)
        for part in ("layer_norm1", "layer_norm2"):
            half[f"{block}.{part}.weight"] = torch.ones(WIDTH)
            half[f"{block}.{part}.bias"] = torch.zeros(WIDTH)
    return {name: value.half() for name, value in half.items()}
