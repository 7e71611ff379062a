"""Given a file or a model, expect a file with its linear layers quantized and all else as it was."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from promptmill.quantization import convert as converting
from promptmill.quantization import nearest
from promptmill.quantization.checkpoint import Checkpoint, TensorInfo, quantization_of
from promptmill.quantization.convert import Recipe, convert
from promptmill.quantization.formats import FORMATS, Quantized, relative_error
from promptmill.quantization.layout import lay_out

FORMAT = pytest.mark.parametrize("form", FORMATS)
FP8, INT8 = FORMATS["fp8"], FORMATS["int8"]


def same(found, wanted):
    return found.dtype == wanted.dtype and torch.equal(
        found.reshape(-1).view(torch.uint8), wanted.reshape(-1).view(torch.uint8)
    )


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


# What is in the file


@FORMAT
def test_quantized_layers_are_what_the_format_makes_of_them(write, ernie, target, form, monkeypatch):
    monkeypatch.setattr(nearest, "CACHE", 1 << 15)
    source = write(ernie)

    report = convert(Checkpoint(source), target, Recipe(FORMATS[form]))

    found = load_file(target)
    errors = {layer.name: layer.error for layer in report.layers if layer.format}
    assert len(errors) == 6
    for layer, error in errors.items():
        weight = ernie[f"{layer}.weight"].float()
        wanted = FORMATS[form].quantize(weight)
        for part, tensor in wanted.tensors.items():
            assert same(found[f"{layer}.{part}"], tensor), (layer, part)
        back = FORMATS[form].dequantize(wanted, tuple(weight.shape))
        assert error == pytest.approx(relative_error(back, weight), rel=1e-3)


@FORMAT
def test_everything_else_is_copied_byte_for_byte(write, ernie, target, form, monkeypatch):
    monkeypatch.setattr(converting, "PIECE", 1000)
    ernie |= {"empty": torch.zeros(0, 4), "one": torch.tensor(3.5), "half": torch.randn(3, 5, 7).half()}
    source = write(ernie)

    report = convert(Checkpoint(source), target, Recipe(FORMATS[form]))

    found = load_file(target)
    kept = set(ernie) - {f"{layer.name}.weight" for layer in report.layers if layer.format}
    assert {"text_proj.weight", "adaLN_modulation.1.weight", "odd", "one", "empty"} < kept
    assert all(same(found[name], ernie[name]) for name in kept)


@FORMAT
def test_the_file_says_in_both_ways_what_is_quantized_and_keeps_its_metadata(write, ernie, target, form):
    source = write(ernie, author="somebody")

    convert(Checkpoint(source), target, Recipe(FORMATS[form]))

    told, found = metadata(target), load_file(target)
    announced = json.loads(told["_quantization_metadata"])
    marks = {
        name.removesuffix(".comfy_quant"): json.loads(bytes(tensor.tolist()))
        for name, tensor in found.items()
        if name.endswith(".comfy_quant")
    }
    assert announced == {"format_version": "1.0", "layers": marks}
    assert len(marks) == 6
    assert told["author"] == "somebody"
    assert json.loads(told["promptmill"])["source"] == "source.safetensors"
    assert json.loads(told["promptmill"])["format"] == form


def test_larger_elements_come_first():
    tensors = {"a": (torch.uint8, (3,)), "b": (torch.bfloat16, (1,)), "c": (torch.float32, (1,))}

    layout = lay_out({name: TensorInfo(*info) for name, info in tensors.items()}, {})

    assert sorted(layout.places, key=layout.places.__getitem__) == ["c", "b", "a"]
    assert all(layout.places[name] % dtype.itemsize == 0 for name, (dtype, _) in tensors.items())


@FORMAT
def test_every_tensor_begins_where_its_elements_are_aligned(write, ernie, target, form):
    scales = {"layers.0.mlp.gate_proj": 0.25}
    convert(Checkpoint(write(ernie)), target, Recipe(FORMATS[form], activation_scales=scales))

    whole = target.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    sizes = {"F32": 4, "BF16": 2}
    entries = [entry for name, entry in header.items() if name != "__metadata__"]
    assert all(
        (8 + length + entry["data_offsets"][0]) % sizes.get(entry["dtype"], 1) == 0 for entry in entries
    )


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "model."])
def test_of_a_whole_checkpoint_only_the_diffusion_model_is_quantized(write, ernie, target, prefix):
    encoder = {
        "text_encoders.layers.0.mlp.gate_proj.weight": torch.zeros(64, 64).to(torch.float8_e4m3fn),
        "text_encoders.layers.0.mlp.gate_proj.comfy_quant": torch.tensor(
            list(b'{"format": "float8_e4m3fn"}')
        ).byte(),
        "vae.decoder.0.weight": torch.randn(64, 64),
    }
    own = json.dumps({"layers": {"text_encoders.layers.0.mlp.gate_proj": {"format": "float8_e4m3fn"}}})
    source = write(
        {prefix + name: tensor for name, tensor in ernie.items()} | encoder, _quantization_metadata=own
    )

    report = convert(Checkpoint(source), target, Recipe(INT8))

    found = load_file(target)
    assert all(same(found[name], tensor) for name, tensor in encoder.items())
    assert found[f"{prefix}layers.0.mlp.gate_proj.weight"].dtype == torch.int8
    assert sorted(set(quantization_of(Checkpoint(target)).values())) == ["float8_e4m3fn", "int8_tensorwise"]
    assert metadata(target)["_quantization_metadata"] == own
    assert "models/checkpoints" in report.text()


def test_of_a_diffusion_model_under_a_prefix_the_layers_are_named_by_tensors_only(write, ernie, target):
    source = write({f"net.{name}": tensor for name, tensor in ernie.items()})

    report = convert(Checkpoint(source), target, Recipe(FP8))

    assert load_file(target)["net.layers.0.mlp.gate_proj.weight"].dtype == torch.float8_e4m3fn
    assert "_quantization_metadata" not in metadata(target)
    assert "models/diffusion_models" in report.text()


def test_activation_scales_are_written_for_fp8_and_not_for_int8(write, ernie, target):
    scales = {"layers.0.mlp.gate_proj": 0.25, "text_proj": 1.0}
    source = Checkpoint(write(ernie))

    convert(source, target, Recipe(FP8, activation_scales=scales))
    found = load_file(target)
    convert(source, target, Recipe(INT8, activation_scales=scales), overwrite=True)

    assert {name: float(found[name]) for name in found if name.endswith("input_scale")} == {
        "layers.0.mlp.gate_proj.input_scale": 0.25
    }
    assert not any(name.endswith("input_scale") for name in load_file(target))


def test_layers_whose_inputs_must_not_be_rounded_are_marked(write, target):
    flux = {
        "img_in.weight": torch.randn(64, 16),
        "double_blocks.0.img_attn.qkv.weight": torch.randn(192, 64),
        "double_blocks.0.img_mod.lin.weight": torch.randn(384, 64),
    }
    recipe = Recipe(FP8, activation_scales={"double_blocks.0.img_mod.lin": 1.0})

    convert(Checkpoint(write(flux)), target, recipe)

    layers = json.loads(metadata(target)["_quantization_metadata"])["layers"]
    assert layers == {
        "double_blocks.0.img_attn.qkv": {"format": "float8_e4m3fn"},
        "double_blocks.0.img_mod.lin": {"format": "float8_e4m3fn", "full_precision_matrix_mult": True},
    }
    assert "double_blocks.0.img_mod.lin.input_scale" not in load_file(target)


def test_for_int8_no_layer_is_marked_so_for_comfyui_ignores_it(write, target):
    flux = {
        "img_in.weight": torch.randn(64, 16),
        "double_blocks.0.img_attn.qkv.weight": torch.randn(192, 64),
        "double_blocks.0.img_mod.lin.weight": torch.randn(384, 64),
    }

    convert(Checkpoint(write(flux)), target, Recipe(INT8))

    layers = json.loads(metadata(target)["_quantization_metadata"])["layers"]
    assert len(layers) == 2
    assert not any("full_precision_matrix_mult" in config for config in layers.values())


def test_another_rounding_is_taken_where_there_is_one(write, ernie, target):
    asked = {}

    def rounding(layer, weight):
        asked[layer] = weight.dtype
        if layer != "layers.1.mlp.gate_proj":
            return None
        other = FP8.quantize(weight * 0.5)
        return Quantized({**other.tensors, "weight_scale": other.tensors["weight_scale"] * 2}, other.config)

    report = convert(Checkpoint(write(ernie)), target, Recipe(FP8, rounding=rounding))

    wanted = FP8.quantize(ernie["layers.1.mlp.gate_proj.weight"].float() * 0.5)
    assert len(asked) == 6
    assert set(asked.values()) == {torch.float32}
    assert float(load_file(target)["layers.1.mlp.gate_proj.weight_scale"]) == 2 * float(
        wanted.tensors["weight_scale"]
    )
    assert max(layer.error or 0 for layer in report.layers) < 0.03


def test_a_model_in_memory_is_converted_like_its_file(write, ernie, target, tmp_path):
    memory = SimpleNamespace(
        metadata={},
        names={name: TensorInfo(tensor.dtype, tuple(tensor.shape)) for name, tensor in ernie.items()},
        read=lambda name: ernie[name].T.contiguous().T if ernie[name].dim() == 2 else ernie[name],
    )

    convert(Checkpoint(write(ernie)), target, Recipe(INT8))
    convert(memory, tmp_path / "memory.safetensors", Recipe(INT8))

    wanted, found = load_file(target), load_file(tmp_path / "memory.safetensors")
    assert set(found) == set(wanted)
    assert all(same(found[name], wanted[name]) for name in wanted)


# Which layers


def kept(report):
    return {layer.name: layer.why_kept for layer in report.layers if layer.why_kept}


def test_layers_are_kept_for_a_reason(write, ernie, target):
    ernie["layers.1.mlp.odd.weight"] = torch.randn(24, 256)
    ernie["layers.1.conv.weight"] = torch.randn(16, 16, 3, 3)
    ernie["layers.1.table.weight"] = torch.zeros(16, 16).int()

    report = convert(Checkpoint(write(ernie)), target, Recipe(FP8, keep=(r"0\.mlp\.gate",)))

    assert kept(report) == {
        "adaLN_modulation.1": "kept in ernie-image",
        "text_proj": "kept in ernie-image",
        "layers.0.mlp.gate_proj": r"--keep 0\.mlp\.gate",
        "layers.1.mlp.odd": "its shape does not fit fp8",
        "layers.1.conv": "not a matrix",
        "layers.1.table": "its dtype is int32",
    }


def test_of_an_unknown_architecture_the_worst_are_kept_within_the_budget(write, unknown, target):
    source = Checkpoint(write(unknown))
    stages = []

    report = convert(source, target, Recipe(FP8, budget=0.3), lambda now: stages.append(now.stage))
    all_kept = convert(source, target, Recipe(FP8, budget=0.0), overwrite=True)

    worst = "among the worst measured, within 30% of the size"
    assert kept(report)["novel.0.mlp.gate_proj"] == worst
    quantized = sum(layer.after for layer in all_kept.layers if layer.format)
    assert (
        sum(layer.before - layer.before // 2 for layer in report.layers if layer.why_kept == worst)
        <= 0.3 * quantized
    )
    assert worst not in kept(all_kept).values()
    assert list(dict.fromkeys(stages)) == ["measuring", "converting"]
    assert "unknown architecture, layers chosen by measuring" in report.text()
