"""Given files of all kinds, expect the loaders to convert each once, to load what is good, and to say what they did."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import websocket
from PIL import Image
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.comfyui
DEMO = "promptmill-demo.safetensors"
PREFIX = "model.diffusion_model."
PROGRESS_TEXT = 3
"""ComfyUI's number for it in binary messages."""


@pytest.fixture
def models(canvas) -> Any:
    """ComfyUI's models; what a test adds to them goes."""
    folder = canvas.output.parent / "models"
    before = set(folder.rglob("*"))
    (folder / "diffusion_models").mkdir(exist_ok=True)
    yield folder
    for path in set(folder.rglob("*")) - before:
        if path.is_file():
            path.unlink()


def forget(canvas) -> None:
    """ComfyUI forgets what it ran at the latest when the next prompt has ended."""
    canvas.post("/free", {"unload_models": True, "free_memory": True})
    image = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}}
    canvas.run({"1": image, "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}})


@pytest.fixture
def load(canvas, row_graph, models) -> Any:
    """Make a picture with a loader: how it ended, what the node told, the picture."""

    def run(name: str = DEMO, precision: str = "fp8", *, only_model: bool = False, **inputs: Any) -> Any:
        forget(canvas)
        graph = row_graph(seed=1)
        common = {"precision": precision, "accelerate": False, "verify": False, **inputs}
        if only_model:
            graph["10"] = {"class_type": "PromptmillLoadModel", "inputs": {"model_name": name, **common}}
            graph["7"]["inputs"]["model"] = ["10", 0]
        else:
            graph["3"] = {"class_type": "PromptmillLoadCheckpoint", "inputs": {"ckpt_name": name, **common}}
        loader = "10" if only_model else "3"
        graph["9"] = {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "load"}}
        ended = canvas.run(graph)
        if ended.error:
            return ended.error, None
        picture = np.asarray(Image.open(canvas.output / ended.files("9")[0]), dtype=np.float32)
        return ended.outputs[loader]["text"][0], picture

    return run


def converted(models: Path) -> list[Path]:
    return sorted((models / "promptmill_cache").glob("*.safetensors"))


def state(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns


def psnr(one: Any, other: Any) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((one - other) ** 2), 1e-9)))


@pytest.mark.parametrize("precision", ["fp8", "int8", "nvfp4"])
def test_a_checkpoint_is_converted_once_and_makes_the_same_picture(load, models, precision) -> None:
    _, exact = load(precision="as it is")
    info, made = load(precision=precision)
    assert f"loaded as {precision} (as chosen)" in info
    (file,) = converted(models)
    first = state(file)
    again, same = load(precision=precision)

    assert f"layers in {precision}" in info
    assert "layers kept in sd3" in info
    assert f"runs {'by PyTorch' if precision == 'int8' else 'emulated'} here\n" in info.partition("better")[0]
    assert "on cpu: " in info
    assert "better on this device: as it is" in info
    assert file.name in info
    assert file.name.startswith(f"promptmill-demo.{precision}.")
    assert (again, state(file), converted(models)) == (info, first, [file])
    assert np.array_equal(made, same)
    assert 15 < psnr(made, exact) < 90, "like the exact one, yet another one"


def test_what_is_told_while_nodes_work_is_on_them_and_goes_to_who_queued_it(
    canvas, row_graph, models
) -> None:
    diffusion_model(models, "tiny.safetensors")
    inputs = {"model_name": "tiny.safetensors", "precision": "int8", "accelerate": True, "verify": False}
    graph = row_graph(seed=1)
    graph["10"] = {"class_type": "PromptmillLoadModel", "inputs": inputs}
    graph["7"]["inputs"]["model"] = ["10", 0]
    forget(canvas)
    address = canvas.url.replace("http", "ws", 1) + "/ws?clientId="
    with (
        closing(websocket.create_connection(address + "who-queues", timeout=120)) as ours,
        closing(websocket.create_connection(address + "another", timeout=2)) as another,
    ):
        canvas.post("/prompt", {"prompt": graph, "client_id": "who-queues"})
        ours_told, another_told = told(ours), told(another)

    assert any("converting to int8" in text for node, text in ours_told if node == "10")
    assert any("compiling for rows of 128 tokens" in text for node, text in ours_told if node == "7")
    assert another_told == []


def told(connection: Any) -> list[tuple[str, str]]:
    """The nodes and the texts on them, until the prompt has ended, or nothing comes any more."""
    texts = []
    try:
        while True:
            message = connection.recv()
            if isinstance(message, bytes):
                if int.from_bytes(message[:4], "big") == PROGRESS_TEXT:
                    text = 8 + int.from_bytes(message[4:8], "big")
                    texts.append((message[8:text].decode(), message[text:].decode()))
            elif json.loads(message)["type"] in ("execution_success", "execution_error"):
                return texts
    except websocket.WebSocketTimeoutException:
        return texts


def test_auto_takes_what_suits_the_device(load, models) -> None:
    info, _ = load(precision="auto")

    assert "loaded as it is (this device gains nothing" in info
    assert converted(models) == []


def test_a_damaged_conversion_is_made_again(load, models) -> None:
    _, made = load()
    (file,) = converted(models)
    size = file.stat().st_size
    file.unlink()
    file.write_bytes(b"half")

    _, again = load()

    assert file.stat().st_size == size
    assert np.array_equal(made, again)


def test_a_quantized_file_is_loaded_as_it_is(load, models) -> None:
    _, made = load()
    (file,) = converted(models)
    shutil.copy(file, models / "checkpoints" / "ready.safetensors")

    info, same = load("ready.safetensors", "int8")

    assert "loaded as it is, quantized already" in info
    assert "layers in fp8, which runs emulated on cpu" in info
    assert converted(models) == [file]
    assert np.array_equal(made, same)


def diffusion_model(models: Path, name: str, cast: torch.dtype = torch.bfloat16) -> None:
    whole = load_file(models / "checkpoints" / DEMO)
    own = {key.removeprefix(PREFIX): value for key, value in whole.items() if key.startswith(PREFIX)}
    matrices = {key: value.to(cast) for key, value in own.items() if value.dim() == 2}
    save_file(own | matrices, models / "diffusion_models" / name)


def test_a_diffusion_model_is_loaded_and_sampled(load, models) -> None:
    diffusion_model(models, "tiny.safetensors")
    _, exact = load("tiny.safetensors", "as it is", only_model=True)

    info, made = load("tiny.safetensors", "int8", only_model=True, accelerate=True)

    assert "loaded as int8" in info
    assert info.endswith("\naccelerated; the first image of each size waits")
    assert psnr(made, exact) > 15
    info, _ = load("tiny.safetensors", "nvfp4", only_model=True, accelerate=True)
    assert info.endswith("\nnot accelerated: NVFP4 is not compiled")


def test_what_comfyui_does_not_know_is_not_converted(load, models) -> None:
    blocks = {f"novel.{block}.fc.weight": torch.randn(256, 256).bfloat16() for block in range(3)}
    save_file(blocks, models / "diffusion_models" / "novel.safetensors")

    error, _ = load("novel.safetensors", "int8", only_model=True)

    assert "novel.safetensors: ComfyUI does not know this model" in error
    assert converted(models) == []


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_weights_that_were_only_cast_are_loaded_as_they_are(load, models, precision) -> None:
    diffusion_model(models, "cast.safetensors", torch.float8_e4m3fn)

    told, picture = load("cast.safetensors", precision, only_model=True)

    assert picture is not None, told
    assert "loaded as it is" in told
    assert "weights are in FP8 already" in told
    assert converted(models) == []


@pytest.mark.parametrize("precision", ["auto", "as it is", "int8"])
def test_a_truncated_file_is_told(load, models, precision) -> None:
    whole = (models / "checkpoints" / DEMO).read_bytes()
    (models / "checkpoints" / "half.safetensors").write_bytes(whole[: len(whole) // 2])

    error, _ = load("half.safetensors", precision)

    assert "half.safetensors: the file is truncated" in error
    assert "download it again" in error
    assert converted(models) == []


@pytest.mark.parametrize("precision", ["auto", "as it is", "fp8"])
def test_damaged_metadata_is_told(load, models, precision) -> None:
    weights = load_file(models / "checkpoints" / DEMO)
    save_file(weights, models / "checkpoints" / "odd.safetensors", {"_quantization_metadata": "garbage"})

    error, _ = load("odd.safetensors", precision)

    assert "odd.safetensors: _quantization_metadata, which should say" in error


def test_a_pickle_is_told_but_may_be_loaded_as_it_is(load, models) -> None:
    torch.save(load_file(models / "checkpoints" / DEMO), models / "checkpoints" / "old.ckpt")

    assert "no .safetensors file but a zip archive" in load("old.ckpt", "fp8")[0]
    assert "only .safetensors files are converted" in load("old.ckpt", "auto")[0]


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "gone.safetensors"])
def test_only_listed_files_are_loaded(canvas, row_graph, name) -> None:
    graph = row_graph()
    inputs = {"ckpt_name": name, "precision": "auto", "accelerate": False, "verify": False}
    graph["3"] = {"class_type": "PromptmillLoadCheckpoint", "inputs": inputs}

    status, reply = canvas.post("/prompt", {"prompt": graph})

    assert status == 400
    assert "Value not in list" in str(reply)
