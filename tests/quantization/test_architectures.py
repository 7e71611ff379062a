"""Given the names in a checkpoint, expect its architecture and the layers to quantize."""

from __future__ import annotations

import pytest

from promptmill.quantization.architectures import ARCHITECTURES, is_modulation, may_be_linear, recognise

BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=BY_NAME)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "model.model.", "net.", "model."])
def test_known_by_its_names(architecture, prefix):
    names = {f"{prefix}{block}.fc.weight" for block in range(6)} | {"vae.decoder.conv_in.weight"}
    assert recognise(names) == (None, prefix)
    assert recognise(names | {prefix + name for name in architecture.known_by}) == (architecture, prefix)


def test_nothing_is_known_of_nothing():
    assert recognise({}) == (None, "")


@pytest.mark.parametrize(
    ("name", "layer", "quantized"),
    [
        ("ernie-image", "layers.35.self_attention.to_q", True),
        ("ernie-image", "layers.0.mlp.gate_proj", True),
        ("ernie-image", "text_proj", False),
        ("ernie-image", "adaLN_modulation.1", False),
        ("ernie-image", "final_linear", False),
        ("lumina2", "layers.3.attention.qkv", True),
        ("lumina2", "noise_refiner.1.feed_forward.w1", True),
        ("lumina2", "layers.3.adaLN_modulation.0", False),
        ("lumina2", "cap_embedder.1", False),
        ("sd3", "joint_blocks.5.x_block.mlp.fc1", True),
        ("sd3", "joint_blocks.5.context_block.adaLN_modulation.1", True),
        ("sd3", "final_layer.adaLN_modulation.1", False),
        ("sd3", "x_embedder.proj", False),
        ("flux", "double_blocks.1.img_attn.qkv", True),
        ("flux", "single_blocks.1.linear1", True),
        ("flux", "guidance_in.in_layer", False),
        ("qwen-image", "transformer_blocks.1.attn.to_out.0", True),
        ("qwen-image", "proj_out", False),
        ("sdxl", "input_blocks.4.1.transformer_blocks.0.ff.net.0.proj", True),
        ("sdxl", "middle_block.1.transformer_blocks.9.attn2.to_k", True),
        ("sdxl", "input_blocks.4.1.proj_in", False),
        ("sdxl", "input_blocks.1.0.emb_layers.1", False),
    ],
)
def test_layers(name, layer, quantized):
    assert BY_NAME[name].quantizes(layer) is quantized


def test_large_modulations_are_rounded_but_not_their_inputs():
    assert BY_NAME["flux"].is_weight_only("double_blocks.1.img_mod.lin")
    assert BY_NAME["flux"].is_weight_only("single_blocks.1.modulation.lin")
    assert BY_NAME["qwen-image"].is_weight_only("transformer_blocks.1.txt_mod.1")
    assert BY_NAME["sd3"].is_weight_only("joint_blocks.5.x_block.adaLN_modulation.1")
    assert not BY_NAME["flux"].is_weight_only("single_blocks.1.linear1")
    assert not BY_NAME["sd3"].is_weight_only("joint_blocks.5.x_block.mlp.fc1")


@pytest.mark.parametrize(
    ("layer", "modulates"),
    [
        ("double_blocks.3.img_mod.linear", True),
        ("single_blocks.3.modulation.linear", True),
        ("blocks.3.adaLN_modulation.1", True),
        ("blocks.3.modCX.1", True),
        ("blocks.3.mlp.fc1", False),
        ("model.layers.3.q_proj", False),
        ("image_model.3.fc", False),
        ("blocks.3.modules.fc", False),
    ],
)
def test_modulations_of_unknown_models(layer, modulates):
    assert is_modulation(layer) is modulates


@pytest.mark.parametrize(
    ("layer", "may"),
    [("blocks.3.attn.q", True), ("blocks.3.norm1", False), ("token_embedding.0.x", False), ("head", False)],
)
def test_matrices_of_unknown_models(layer, may):
    assert may_be_linear(layer) is may
