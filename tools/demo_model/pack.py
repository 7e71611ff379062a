"""
Make the shipped file of what ``train`` wrote.

    python -m promptmill.tools.demo_model.pack OUT driver/engine/demo/promptmill-demo.safetensors
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...driver.engine.models import sd3
from .networks import WIDTH
from .train import VOCABULARY

Shapes = dict[str, tuple[int, ...]]


def shapes(trained: dict[str, Tensor]) -> Shapes:
    """The names and shapes of the transformer as ComfyUI stores it."""
    hidden = trained["context_embedder.bias"].shape[0]
    depth = hidden // 64
    found: Shapes = {
        "pos_embed": tuple(trained["pos_embed.pos_embed"].shape),
        "x_embedder.proj.weight": tuple(trained["pos_embed.proj.weight"].shape),
        "x_embedder.proj.bias": (hidden,),
    }

    def linear(name: str, outputs: int, inputs: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (outputs, inputs), (outputs,)

    linear("t_embedder.mlp.0", hidden, 256)
    linear("t_embedder.mlp.2", hidden, hidden)
    linear("y_embedder.mlp.0", hidden, sd3.POOLED)
    linear("y_embedder.mlp.2", hidden, hidden)
    linear("context_embedder", hidden, WIDTH)
    for block in range(depth):
        for side in ("context_block", "x_block"):
            name = f"joint_blocks.{block}.{side}"
            last = block == depth - 1 and side == "context_block"
            linear(f"{name}.attn.qkv", 3 * hidden, hidden)
            found[f"{name}.attn.ln_q.weight"] = found[f"{name}.attn.ln_k.weight"] = (64,)
            linear(f"{name}.adaLN_modulation.1", (2 if last else 6) * hidden, hidden)
            if not last:
                linear(f"{name}.attn.proj", hidden, hidden)
                linear(f"{name}.mlp.fc1", 4 * hidden, hidden)
                linear(f"{name}.mlp.fc2", hidden, 4 * hidden)
    linear("final_layer.linear", trained["proj_out.bias"].shape[0], hidden)
    linear("final_layer.adaLN_modulation.1", 2 * hidden, hidden)
    return found


def as_comfyui(trained: dict[str, Tensor]) -> dict[str, Tensor]:
    """
    Undo diffusers' conversion: number every element, convert the numbers, and see where each went.
    """
    numbered: dict[str, Tensor] = {}
    total = 0
    for name, shape in shapes(trained).items():
        count = int(torch.Size(shape).numel())
        numbered[name] = torch.arange(total, total + count).reshape(shape)
        total += count
    flat = torch.empty(total, dtype=next(iter(trained.values())).dtype)
    for name, places in convert_sd3_transformer_checkpoint_to_diffusers(dict(numbered)).items():
        flat[places.flatten()] = trained[name].flatten()
    return {name: flat[places.flatten()].reshape(places.shape) for name, places in numbered.items()}


def pack(trained: Path, shipped: Path) -> None:
    """Write the shipped file: fp16, ComfyUI's names, without what is zero in any case."""
    transformer = as_comfyui(load_file(trained / "transformer.safetensors"))
    del transformer["y_embedder.mlp.0.weight"]  # meets nothing but zeros
    words = load_file(trained / "words.safetensors")
    tensors = {sd3.MODEL + name: value for name, value in transformer.items()}
    for name, value in load_file(trained / "autoencoder.safetensors").items():
        side, _, number, rest = name.split(".", 3)
        tensors[f"{sd3.AUTOENCODER}taesd_{side}.{int(number) + (side == 'decoder')}.{rest}"] = value
    tensors[f"{sd3.AUTOENCODER}vae_scale"] = torch.tensor(sd3.SCALE)
    tensors[f"{sd3.AUTOENCODER}vae_shift"] = torch.tensor(sd3.SHIFT)
    tensors[f"{sd3.TEXT}embeddings.token_embedding.weight"] = words["token.weight"]
    tensors[f"{sd3.TEXT}embeddings.position_embedding.weight"] = words["position"]
    save_file(
        {name: value.contiguous() for name, value in tensors.items()},
        shipped,
        metadata={sd3.VOCABULARY: json.dumps(VOCABULARY.ids)},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trained", type=Path)
    parser.add_argument("shipped", type=Path)
    options = parser.parse_args()
    pack(options.trained, options.shipped)
