"""Whatever goes wrong in a prompt is told in ComfyUI's words, and the next prompt works."""

from __future__ import annotations

import io

import pytest
import requests
import torch
from PIL import Image

from promptmill.errors import PromptmillError


def error_of(entry):
    assert entry["status"]["status_str"] == "error"
    kind, data = entry["status"]["messages"][-1]
    assert kind == "execution_error"
    return data


def works(client, graph):
    return client.run(graph(seed=77))["status"]["status_str"] == "success"


def refusal(engine, prompt):
    reply = requests.post(f"{engine.url}/prompt", json={"prompt": prompt})
    assert reply.status_code == 400
    found = reply.json()["node_errors"]
    return {node: error["type"] for node, about in found.items() for error in about["errors"]}


@pytest.mark.parametrize(
    ("changes", "node", "kind"),
    [
        ({"ckpt_name": "missing.safetensors"}, "1", "value_not_in_list"),
        ({"sampler_name": "dpm_adaptive"}, "5", "value_not_in_list"),
        ({"scheduler": "karras"}, "5", "value_not_in_list"),
        ({"width": 8}, "4", "value_smaller_than_min"),
        ({"height": 100_000}, "4", "value_bigger_than_max"),
        ({"seed": 2**64}, "5", "value_bigger_than_max"),
        ({"steps": "many"}, "5", "invalid_input_type"),
    ],
)
def test_what_validation_refuses(engine, client, graph, changes, node, kind):
    assert refusal(engine, graph(**changes)) == {node: kind}
    assert works(client, graph)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError("no room"), "MemoryError"),
        (torch.OutOfMemoryError("CUDA out of memory."), "torch.OutOfMemoryError"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "RuntimeError"),
    ],
)
def test_out_of_memory_is_told_and_everything_is_let_go(client, loader, graph, error, kind):
    loader.model.fails_with.append(error)

    told = error_of(client.run(graph()))

    assert (told["exception_type"], told["node_id"], told["node_type"]) == (kind, "5", "KSampler")
    assert "smaller width" in told["exception_message"]
    assert works(client, graph)
    assert len(loader.loaded) == 2, "the model was dropped and loaded again"


def test_a_picture_larger_than_memory_is_an_error(client, graph):
    told = error_of(client.run(graph(width=16384, height=16384, batch_size=4096, steps=1)))
    assert told["node_id"] == "4"
    assert "smaller width" in told["exception_message"]
    assert works(client, graph)


def test_an_error_of_ours_is_told_with_its_hint_and_with_the_inputs(client, loader, graph):
    loader.model.fails_with.append(
        PromptmillError("a word it does not know", value="zebra", hint="say horse")
    )

    told = error_of(client.run(graph(cfg=3.5)))

    assert told["exception_message"] == "a word it does not know (found 'zebra')\n  hint: say horse\n"
    assert told["exception_type"] == "promptmill.errors.PromptmillError"
    assert told["current_inputs"]["cfg"] == [3.5]
    assert told["current_inputs"]["sampler_name"] == ["euler"]
    assert sorted(told["executed"]) == list("1234")
    assert any("sample" in line for line in told["traceback"])
    assert works(client, graph)


def test_a_model_file_that_cannot_be_loaded(engine, client, loader, graph, monkeypatch, tmp_path):
    path = tmp_path / "engine/models/checkpoints/corrupt.safetensors"
    path.write_bytes(b"\xff" * 100)

    def load(source):
        raise PromptmillError("not a safetensors file", where=str(source))

    monkeypatch.setattr(engine.worker.checkpoints, "_load", load)
    told = error_of(client.run(graph(ckpt_name="corrupt.safetensors")))
    assert (told["node_id"], str(path) in told["exception_message"]) == ("1", True)
    monkeypatch.undo()
    assert works(client, graph)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n and then nothing"])
def test_an_input_file_that_is_no_picture(client, graph, tmp_path, content):
    (tmp_path / "engine/input/bad.png").write_bytes(content)
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "bad.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    assert error_of(client.run(prompt))["node_type"] == "LoadImage"
    assert works(client, graph)


def test_nan_ends_in_success_and_in_a_black_picture_as_on_comfyui(engine, client, loader, graph):
    loader.model.makes_nan = True
    entry = client.run(graph())
    assert entry["status"]["status_str"] == "success"
    image = entry["outputs"]["7"]["images"][0]
    picture = Image.open(io.BytesIO(requests.get(f"{engine.url}/view", params=image).content))
    assert picture.getextrema() == ((0, 0),) * 3


def test_system_exit_in_a_node_leaves_http_alive(engine, client, loader, graph):
    loader.model.fails_with.append(SystemExit())
    client.submit(graph())
    client.hear("execution_start")
    assert requests.get(f"{engine.url}/prompt").json()["exec_info"]["queue_remaining"] == 1
