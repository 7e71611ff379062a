"""A random checkpoint of SD3's shape, small enough to sample in a second on a CPU, in ComfyUI's key names.

Hidden 256, depth 4 (ComfyUI reads the depth as hidden / 64), a TAESD-shaped autoencoder, CLIP-L at its only size.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

HIDDEN = 256
DEPTH = 4
LATENT = 16
CONTEXT = 4096
POOLED = 2048
POSITIONS = 24
WIDTH = 768

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def linear(name: str, outputs: int, inputs: int) -> Shapes:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def transformer() -> Shapes:
    yield "pos_embed", (1, POSITIONS**2, HIDDEN)
    yield "x_embedder.proj.weight", (HIDDEN, LATENT, 2, 2)
    yield "x_embedder.proj.bias", (HIDDEN,)
    for name, inputs in (("t_embedder", 256), ("y_embedder", POOLED)):
        yield from linear(f"{name}.mlp.0", HIDDEN, inputs)
        yield from linear(f"{name}.mlp.2", HIDDEN, HIDDEN)
    yield from linear("context_embedder", HIDDEN, CONTEXT)
    for block in range(DEPTH):
        for side in ("context_block", "x_block"):
            name = f"joint_blocks.{block}.{side}"
            last = block == DEPTH - 1 and side == "context_block"
            yield from linear(f"{name}.attn.qkv", 3 * HIDDEN, HIDDEN)
            yield f"{name}.attn.ln_q.weight", (64,)
            yield f"{name}.attn.ln_k.weight", (64,)
            yield from linear(f"{name}.adaLN_modulation.1", (2 if last else 6) * HIDDEN, HIDDEN)
            if not last:
                yield from linear(f"{name}.attn.proj", HIDDEN, HIDDEN)
                yield from linear(f"{name}.mlp.fc1", 4 * HIDDEN, HIDDEN)
                yield from linear(f"{name}.mlp.fc2", HIDDEN, 4 * HIDDEN)
    yield from linear("final_layer.linear", 4 * LATENT, HIDDEN)
    yield from linear("final_layer.adaLN_modulation.1", 2 * HIDDEN, HIDDEN)


def convolution(name: str, outputs: int, inputs: int, *, bias: bool = True) -> Shapes:
    yield f"{name}.weight", (outputs, inputs, 3, 3)
    if bias:
        yield f"{name}.bias", (outputs,)


def autoencoder() -> Shapes:
    def blocks(side: str, numbers: tuple[int, ...]) -> Shapes:
        for number in numbers:
            for layer in (0, 2, 4):
                yield from convolution(f"{side}.{number}.conv.{layer}", 64, 64)

    yield from convolution("taesd_encoder.0", 64, 3)
    yield from blocks("taesd_encoder", (1, 3, 4, 5, 7, 8, 9, 11, 12, 13))
    for number in (2, 6, 10):
        yield from convolution(f"taesd_encoder.{number}", 64, 64, bias=False)
    yield from convolution("taesd_encoder.14", LATENT, 64)
    yield from convolution("taesd_decoder.1", 64, LATENT)
    yield from blocks("taesd_decoder", (3, 4, 5, 8, 9, 10, 13, 14, 15, 18))
    for number in (7, 12, 17):
        yield from convolution(f"taesd_decoder.{number}", 64, 64, bias=False)
    yield from convolution("taesd_decoder.19", 3, 64)


def text_encoder() -> Shapes:
    yield "embeddings.token_embedding.weight", (49408, WIDTH)
    yield "embeddings.position_embedding.weight", (77, WIDTH)
    for layer in range(12):
        name = f"encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from linear(f"{name}.self_attn.{part}", WIDTH, WIDTH)
        yield from linear(f"{name}.mlp.fc1", 4 * WIDTH, WIDTH)
        yield from linear(f"{name}.mlp.fc2", WIDTH, 4 * WIDTH)
        for part in ("layer_norm1", "layer_norm2"):
            yield f"{name}.{part}.weight", (WIDTH,)
            yield f"{name}.{part}.bias", (WIDTH,)
    yield "final_layer_norm.weight", (WIDTH,)
    yield "final_layer_norm.bias", (WIDTH,)


def write_checkpoint(path: Path) -> None:
    """Write the checkpoint in fp16, about 250 MB, most of it CLIP-L."""
    noise = np.random.default_rng(7).standard_normal(1 << 20).astype(np.float16)
    tensors: dict[str, np.ndarray] = {}
    parts = (
        ("model.diffusion_model.", transformer()),
        ("first_stage_model.", autoencoder()),
        ("text_encoders.clip_l.transformer.text_model.", text_encoder()),
    )
    for prefix, shapes in parts:
        for name, shape in shapes:
            scale = 1.0 if len(shape) == 1 else float(np.prod(shape[1:])) ** -0.5
            values = np.resize(noise, shape) * np.float16(scale)
            if "norm" in name or ".ln_" in name:
                values = np.full(shape, 0 if name.endswith("bias") else 1, np.float16)
            tensors[prefix + name] = values
    tensors["first_stage_model.vae_scale"] = np.array(1.0, np.float16)
    tensors["first_stage_model.vae_shift"] = np.array(0.0, np.float16)
    save_file(tensors, path)


if __name__ == "__main__":
    write_checkpoint(Path(sys.argv[1]))
