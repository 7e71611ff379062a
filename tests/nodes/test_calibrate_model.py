"""Given Calibrate Model on a real ComfyUI that computes in FP8, expect a file that does as its source does, and a true report."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from promptmill.quantization.formats import FORMATS, relative_error
from promptmill.tools.demo_model.networks import Judge
from promptmill.tools.demo_model.scenes import BACKGROUNDS, COLOURS, OBJECTS, Scene, caption, random_scene

pytestmark = pytest.mark.comfyui

DEMO = "promptmill-demo.safetensors"
QKV = "joint_blocks.0.x_block.attn.qkv"
FC1, FC2 = "joint_blocks.0.x_block.mlp.fc1", "joint_blocks.0.x_block.mlp.fc2"
PREFIX = "model.diffusion_model."
QUESTIONS = {"object": OBJECTS, "colour": COLOURS, "background": BACKGROUNDS}
SAMPLING = {"model", "clip", "vae", "table", "steps", "cfg", "sampler", "scheduler", "width", "height"}
Graph = dict[str, Any]


@pytest.fixture(scope="module")
def base(new_pack_base: Callable[[], Path]) -> Path:
    """ComfyUI's folders, with a LoRA, and checkpoints: one of whose layers has only zeros as input; without text encoder."""
    base = new_pack_base()
    checkpoints = base / "models" / "checkpoints"
    tensors = load_file(checkpoints / DEMO)
    without = {key: value for key, value in tensors.items() if not key.startswith("text_encoders.")}
    save_file(without, checkpoints / "no_text.safetensors")
    for name in ("weight", "bias"):
        tensors[f"{PREFIX}{FC1}.{name}"].zero_()
    save_file(tensors, checkpoints / "zeros.safetensors")
    (base / "models" / "loras").mkdir()
    generator = torch.Generator().manual_seed(0)
    lora = {
        f"diffusion_model.{QKV}.lora_{way}.weight": 0.3 * torch.randn(*shape, generator=generator)
        for way, shape in (("up", (576, 4)), ("down", (4, 192)))
    }
    save_file(lora, base / "models" / "loras" / "tiny.safetensors")
    return base


@pytest.fixture(scope="module")
def canvas(base: Path, start_comfyui: Callable[..., Any], canvas_of: Callable[[Any], Any]) -> Any:
    return canvas_of(start_comfyui(base, "--supports-fp8-compute"))


@pytest.fixture(scope="module")
def models(base: Path) -> Path:
    return base / "models" / "diffusion_models"


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def captions(count: int, seed: int, held_out: bool = False) -> tuple[list[Scene], str]:
    """Scenes, and a table of their captions."""
    rng = random.Random(seed)
    scenes = [random_scene(rng, held_out) for _ in range(count)]
    return scenes, "\n".join(["prompt", *(f'"{caption(scene)}"' for scene in scenes)])


@pytest.fixture
def graph(table: Callable[..., Any]) -> Callable[..., Graph]:
    """Checkpoint 1, table 2, Calibrate Model 3, its images 4."""

    def make(
        file_name: str, *, text: str = captions(2, 3)[1], checkpoint: str = DEMO, **inputs: Any
    ) -> Graph:
        given = {
            "model": ["1", 0],
            "clip": ["1", 1],
            "vae": ["1", 2],
            "table": ["2", 0],
            "rows": 16,
            "format": "fp8",
            "rounding": "nearest",
            "steps": 2,
            "cfg": 2.5,
            "sampler": "euler",
            "scheduler": "simple",
            "width": 128,
            "height": 128,
            "file_name": file_name,
            "overwrite": False,
            **inputs,
        }
        return {
            "1": node("CheckpointLoaderSimple", ckpt_name=checkpoint),
            "2": table(text),
            "3": node("PromptmillCalibrateModel", **given),
            "4": node("PreviewImage", images=["3", 1]),
        }

    return make


def pixels(canvas: Any, ended: Any, node_id: str) -> NDArray[np.float64]:
    folder = canvas.output.parent
    return np.stack(
        [
            np.asarray(Image.open(folder / image["type"] / image["subfolder"] / image["filename"]), float)[
                ..., :3
            ]
            for image in ended.outputs[node_id]["images"]
        ]
    )


def psnr(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    return float(10 * np.log10(255**2 / np.square(found - wanted).mean()))


def test_fp8_gets_a_scale_for_every_layers_input_and_a_true_report(
    canvas: Any, graph: Any, models: Path
) -> None:
    nodes = graph("mugs/fp8")
    same = {name: value for name, value in nodes["3"]["inputs"].items() if name in SAMPLING}
    sampled = node("PromptmillSampleTable", **same, rows_per_batch=1, if_exists="skip")
    ended = canvas.run({**nodes, "5": sampled})

    assert ended.status == "success", ended.error
    report = json.loads((models / "mugs" / "fp8.json").read_text("utf-8"))
    tensors = load_file(models / "mugs" / "fp8.safetensors")
    layers = [layer["name"] for layer in report["layers"] if layer["format"]]
    assert len(layers) > 10
    rounded = [name for name in layers if "adaLN_modulation" not in name]
    assert {name for name in tensors if name.endswith(".input_scale")} == {
        f"{name}.input_scale" for name in rounded
    }
    assert all(0 < float(tensors[f"{name}.input_scale"]) < 100 for name in rounded)
    before_and_after = pixels(canvas, ended, "4")
    told = list(report["calibration"]["psnr_db"].values())
    for row, value in enumerate(told):
        assert psnr(before_and_after[2 * row], before_and_after[2 * row + 1]) == pytest.approx(value, abs=0.2)
    assert len(before_and_after) == 2 * len(told) == 4
    assert np.array_equal(before_and_after[::2], pixels(canvas, ended, "5"))
    assert min(told) > 25
    (text,) = ended.outputs["3"]["text"]
    assert f"PSNR {told[0]:.1f} dB" in text
    assert "calibrated by 2 rows" in text
    assert "never ran" not in text
    assert sorted(path.name for path in (models / "mugs").iterdir()) == ["fp8.json", "fp8.safetensors"]


def test_the_output_is_the_model_that_core_loads_from_the_file(canvas: Any, graph: Any) -> None:
    sampled = {
        **graph("loaded"),
        "5": node("CLIPTextEncode", clip=["1", 1], text="a red mug"),
        "6": node("EmptySD3LatentImage", width=128, height=128, batch_size=1),
        "7": node(
            "KSampler",
            model=["3", 0],
            positive=["5", 0],
            negative=["5", 0],
            latent_image=["6", 0],
            seed=1,
            steps=2,
            cfg=1.0,
            sampler_name="euler",
            scheduler="simple",
            denoise=1.0,
        ),
        "8": node("VAEDecode", samples=["7", 0], vae=["1", 2]),
        "9": node("PreviewImage", images=["8", 0]),
    }
    ours = canvas.run(sampled)
    assert ours.status == "success", ours.error
    core = {**sampled, "3": node("UNETLoader", unet_name="loaded.safetensors", weight_dtype="default")}
    del core["4"], core["2"]
    cores = canvas.run(core)
    assert cores.status == "success", cores.error

    assert np.array_equal(pixels(canvas, ours, "9"), pixels(canvas, cores, "9"))


def test_int8_takes_the_hessian_rounding_where_held_out_rows_are_better_for_it(
    canvas: Any, graph: Any, models: Path
) -> None:
    ended = canvas.run(graph("int8", text=captions(8, 4)[1], format="int8", rounding="hessian", steps=4))

    assert ended.status == "success", ended.error
    report = json.loads((models / "int8.json").read_text("utf-8"))
    tried = report["calibration"]["held_out_error"]
    kept = [name for name, one in tried.items() if one["kept"]]
    assert {name: one["hessian"] < one["nearest"] for name, one in tried.items()} == {
        name: name in kept for name in tried
    }
    assert QKV in tried
    assert FC2 in report["calibration"]["too_few_tokens"]
    assert "too few tokens" in ended.outputs["3"]["text"][0]
    assert FC2 not in tried, "6 rows x 4 steps x 128 tokens are too few for its 768 features"
    assert len(kept) > len(tried) / 2
    source, found = load_file(models.parent / "checkpoints" / DEMO), load_file(models / "int8.safetensors")
    for name in (layer["name"] for layer in report["layers"] if layer["format"]):
        nearest = FORMATS["int8"].quantize(source[f"{PREFIX}{name}.weight"].float()).tensors["weight"]
        assert torch.equal(found[f"{name}.weight"], nearest) is (name not in kept), name
    assert f"kept in {len(kept)} of {len(tried)} layers" in ended.outputs["3"]["text"][0]


def test_loras_are_in_the_file_as_save_model_puts_them_in(
    canvas: Any, graph: Any, models: Path, base: Path
) -> None:
    lora = node("LoraLoaderModelOnly", model=["1", 0], lora_name="tiny.safetensors", strength_model=1.0)
    settings = {"model": ["5", 0], "format": "int8", "steps": 4, "text": captions(4, 4)[1]}
    for name in ("nearest", "hessian"):
        ended = canvas.run({**graph(f"lora-{name}", rounding=name, **settings), "5": lora})
        assert ended.status == "success", ended.error
    ended = canvas.run(
        {
            "1": node("CheckpointLoaderSimple", ckpt_name=DEMO),
            "5": lora,
            "6": node("ModelSave", model=["5", 0], filename_prefix="saved/lora"),
        }
    )

    assert ended.status == "success", ended.error
    (saved,) = (base / "output" / "saved").glob("*.safetensors")
    weight = load_file(saved)[f"{PREFIX}{QKV}.weight"].float()
    plain = load_file(base / "models" / "checkpoints" / DEMO)[f"{PREFIX}{QKV}.weight"].float()
    assert relative_error(weight, plain) > 0.1, "the LoRA is not nothing"
    nearest = FORMATS["int8"].quantize(weight)
    found = {
        name: load_file(models / f"lora-{name}.safetensors")[f"{QKV}.weight"]
        for name in ("nearest", "hessian")
    }
    assert torch.equal(found["nearest"], nearest.tensors["weight"])
    assert not torch.equal(found["hessian"], found["nearest"])
    assert relative_error(found["hessian"].float(), found["nearest"].float()) < 0.05


def test_a_layer_without_inputs_gets_no_scale_and_is_named(canvas: Any, graph: Any, models: Path) -> None:
    ended = canvas.run(graph("zeros", checkpoint="zeros.safetensors"))

    assert ended.status == "success", ended.error
    report = json.loads((models / "zeros.json").read_text("utf-8"))
    assert report["calibration"]["never_ran"] == [FC2]
    assert FC2 in ended.outputs["3"]["text"][0].partition("never ran")[2]
    tensors = load_file(models / "zeros.safetensors")
    assert f"{FC2}.input_scale" not in tensors
    assert f"{FC2}.weight_scale" in tensors


def test_a_file_is_not_replaced_without_a_word(canvas: Any, graph: Any, models: Path) -> None:
    models.mkdir(exist_ok=True)
    (models / "mine.safetensors").write_bytes(b"mine")

    ended = canvas.run(graph("mine.safetensors"))
    assert "there is a file of this name" in ended.error
    assert (models / "mine.safetensors").read_bytes() == b"mine"

    ended = canvas.run(graph("mine", overwrite=True))
    assert ended.status == "success", ended.error
    assert f"{QKV}.weight" in load_file(models / "mine.safetensors")


def test_another_programs_report_is_not_replaced(canvas: Any, graph: Any, models: Path) -> None:
    models.mkdir(exist_ok=True)
    (models / "theirs.json").write_text("theirs", "utf-8")

    ended = canvas.run(graph("theirs"))
    assert "theirs.json" in ended.error
    assert (models / "theirs.json").read_text("utf-8") == "theirs"


def test_a_place_where_no_file_can_be_is_found_before_the_rows_are_run(
    canvas: Any, graph: Any, models: Path
) -> None:
    models.mkdir(exist_ok=True)
    (models / "file").write_bytes(b"mine")

    ended = canvas.run(graph("file/below", checkpoint="no_text.safetensors"))

    assert "the file cannot be written" in ended.error


@pytest.mark.parametrize("name", ["../../out", "/tmp/out", "a\\b", ""])
def test_a_file_elsewhere_is_refused(canvas: Any, graph: Any, name: str) -> None:
    ended = canvas.run(graph(name))

    assert ended.status == "error"
    assert "file_name: " in ended.error
    assert "a name below models/diffusion_models" in ended.error


def test_what_is_quantized_already_and_the_source_itself_are_refused(canvas: Any, graph: Any) -> None:
    made = canvas.run(graph("once"))
    assert made.status == "success", made.error
    unet = node("UNETLoader", unet_name="once.safetensors", weight_dtype="default")

    again = canvas.run({**graph("twice", model=["5", 0]), "5": unet})
    assert "quantized already" in again.error
    assert "BF16" in again.error

    itself = canvas.run({**graph("once", model=["5", 0], overwrite=True), "5": unet})
    assert "the model was loaded from this file" in itself.error


def test_hessian_rounding_needs_rows_to_judge_by(canvas: Any, graph: Any, models: Path) -> None:
    ended = canvas.run(graph("few", rounding="hessian", rows=1))

    assert "too few rows" in ended.error
    assert not (models / "few.safetensors").exists()

    ended = canvas.run(graph("few", text=captions(8, 2)[1], rounding="hessian", steps=1))
    assert "Hessian rounding needs 8 tokens" in ended.error
    assert not (models / "few.safetensors").exists()


def test_twelve_pictures_show_what_those_of_the_source_show(
    canvas: Any, graph: Any, table: Any, folder: str
) -> None:
    """Of pairs of object and colour that neither training nor calibration saw."""
    scenes, text = captions(12, 7, held_out=True)
    judge = Judge({name: len(choices) for name, choices in QUESTIONS.items()})
    judge.load_state_dict(load_file(Path(__file__).parents[1] / "engine" / "judge.safetensors"))

    def made(name: str, model: list[Any], more: Graph) -> tuple[NDArray[np.float64], int]:
        sampling = {"steps": 8, "cfg": 2.5, "sampler": "euler", "scheduler": "simple", "width": 128}
        given = {"model": model, "clip": ["1", 1], "vae": ["1", 2], "table": ["8", 0], "height": 128}
        save = {"rows_per_batch": 4, "if_exists": "skip"}
        ended = canvas.run(
            {
                "1": node("CheckpointLoaderSimple", ckpt_name=DEMO),
                **more,
                "8": table(text, folder=f"{folder}-{name}"),
                "9": node("PromptmillSampleTable", **sampling, **given, **save),
            }
        )
        assert ended.status == "success", ended.error
        found = pixels(canvas, ended, "9")
        with torch.inference_mode():
            logits = judge.eval()(torch.from_numpy(found).permute(0, 3, 1, 2).float() / 255)
        right = [
            all(
                choices[logits[key][row].argmax()] == getattr(scene, key)
                for key, choices in QUESTIONS.items()
            )
            for row, scene in enumerate(scenes)
        ]
        return found, sum(right)

    wanted, right = made("source", ["1", 0], {})
    for name in ("fp8", "int8"):
        calibrating = graph(f"good-{name}", text=captions(4, 4)[1], format=name, steps=4)
        found, also_right = made(name, ["3", 0], {key: calibrating[key] for key in "23"})
        assert also_right >= right - 1 >= 10, name
        assert psnr(found, wanted) > {"fp8": 25, "int8": 30}[name]
