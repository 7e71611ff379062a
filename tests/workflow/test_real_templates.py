"""ComfyUI's own workflow templates, on a real server and in its real canvas.

The table was written after reading each workflow: the inputs a person would set by hand for prompt,
negative prompt, seed, width and height. An empty size means that an input image decides it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from promptmill.driver.workflow import Graph, Target, load_workflow
from promptmill.driver.workflow.convert import same_graph, to_api

pytestmark = pytest.mark.comfyui

ROLES = ("prompt", "negative", "seed", "width", "height")
BINDINGS = {
    "image_ernie_image": ("88:78.value", "88:72.text", "88:70.seed", "88:71.width", "88:71.height"),
    "image_ernie_image_turbo": ("88:94.value", "", "88:70.seed", "88:71.width", "88:71.height"),
    "image_z_image": ("76:67.text", "76:71.text", "76:69.seed", "76:68.width", "76:68.height"),
    "image_z_image_turbo": ("57:27.text", "", "57:3.seed", "57:13.width", "57:13.height"),
    "flux_dev_full_text_to_image": ("194:49.text", "", "194:50.seed", "194:48.width", "194:48.height"),
    "flux_schnell_full_text_to_image": ("41.clip_l 41.t5xxl", "", "31.seed", "27.width", "27.height"),
    "flux1_krea_dev": ("200:195.text", "", "200:197.seed", "200:196.width", "200:196.height"),
    "image_flux2": ("68:6.text", "", "68:25.noise_seed", "", ""),
    "image_flux2_text_to_image": ("98:6.text", "", "98:25.noise_seed", "98:47.width 98:48.width", "98:47.height 98:48.height"),
    "image_flux2_klein_text_to_image": ("76.value", "75:67.text", "75:73.noise_seed", "75:68.value", "75:69.value"),
    "flux_fill_inpaint_example": ("47:23.text", "", "47:3.seed", "", ""),
    "flux_redux_model_example": ("6.text", "", "25.noise_seed", "27.width 30.width", "27.height 30.height"),
    "sd3.5_simple_example": ("16.text", "40.text", "3.seed", "53.width", "53.height"),
    "sd3.5_large_canny_controlnet_example": ("6.text", "", "3.seed", "33.width", "33.height"),
    "sdxl_simple_example": ("6.text 15.text", "7.text 16.text", "10.noise_seed 11.noise_seed", "5.width", "5.height"),
    "sdxlturbo_example": ("6.text", "7.text", "13.noise_seed", "5.width", "5.height"),
    "image_qwen_image": ("76:6.text", "76:7.text", "76:3.seed", "76:58.width", "76:58.height"),
    "image_qwen_image_edit_2509": ("433:111.prompt", "433:110.prompt", "433:3.seed", "", ""),
    "image_qwen_image_layered": ("116.value", "83:7.text", "83:3.seed", "", ""),
    "image_chroma_text_to_image": ("748.text", "749.text", "718.noise_seed", "737.width", "737.height"),
    "hidream_i1_dev": ("16.text", "40.text", "3.seed", "53.width", "53.height"),
    "image_hidream_o1": ("171.value", "188.text", "108.noise_seed", "156.width", "156.height"),
    "image_netayume_lumina_t2i": ("48:51.value", "48:35:42.value", "48:33.seed", "48:31.width", "48:31.height"),
    "image_omnigen2_t2i": ("42:6.text", "42:7.text", "42:21.noise_seed", "42:11.width", "42:11.height"),
    "image_newbieimage_exp0_1-t2i": ("48.value", "41:49.text", "41:3.seed", "41:31.width", "41:31.height"),
    "image_anima_base_v1": ("90:77.text", "90:75.text", "90:76.seed", "90:74.width", "90:74.height"),
    "image_ideogram4_t2i": ("98:24.text", "", "98:18.noise_seed", "98:27.value", "98:28.value"),
    "image_krea2_turbo_t2i": ("30:19.value", "", "30:3.seed", "30:5.width", "30:5.height"),
    "image_mage_flow_t2i_int8": ("12:5.prompt", "12:5.negative_prompt", "12:6.seed", "12:5.width", "12:5.height"),
}  # fmt: skip
# Nodes inside its subgraph have the ids of nodes outside; the canvas gives them new ones when it loads the file.
RENUMBERED = {"image_newbieimage_exp0_1-t2i"}
SAVED_AGAIN = [
    "image_ernie_image",
    "image_z_image",
    "flux_redux_model_example",
    "sdxl_simple_example",
    "image_ideogram4_t2i",
]
ROW = {
    "prompt": "a {red|blue} boat, \\(detailed\\), 一只猫",
    "negative": "bad | ugly",
    "seed": 2**53 - 1,
    "steps": 7,
    "cfg": 3.5,
    "width": 768,
    "height": 640,
    "batch_size": 2,
}

Json = dict[str, Any]
every = pytest.mark.parametrize("template", BINDINGS)


@pytest.fixture
def graph(template: str, templates: Path, comfyui: Any) -> Graph:
    return load_workflow(templates / f"{template}.json").graph(comfyui.object_info)


@pytest.fixture
def on_canvas(template: str, templates: Path, canvas: Callable[[Any], Json]) -> Json:
    return canvas(json.loads((templates / f"{template}.json").read_text(encoding="utf-8")))


def row(graph: Graph) -> dict[Target, Any]:
    return {
        target: ROW[role] for role, targets in graph.automatic().items() if role in ROW for target in targets
    }


def bare(api: Json) -> Json:
    return {node_id: (node["class_type"], node["inputs"]) for node_id, node in api.items()}


def shape(api: Json) -> Counter[str]:
    """The same graph under any ids: each node with all that feeds it."""

    def unfold(node_id: str) -> Any:
        node = api[node_id]
        inputs = {
            name: (unfold(value[0]), value[1]) if isinstance(value, list) else value
            for name, value in sorted(node["inputs"].items())
        }
        return node["class_type"], inputs

    return Counter(repr(unfold(node_id)) for node_id in api)


def assert_same(template: str, ours: Json, canvas: Json) -> None:
    if template in RENUMBERED:
        assert shape(ours) == shape(canvas)
    else:
        assert bare(ours) == bare(canvas)


@every
def test_the_server_accepts_the_conversion(graph: Graph, comfyui: Any) -> None:
    status, answer = comfyui.post(graph.api)
    assert (status, answer.get("node_errors")) == (200, {})
    assert str(graph.check()) == ""


@pytest.mark.chromium
@every
def test_the_canvas_would_queue_the_same(template: str, graph: Graph, on_canvas: Json, comfyui: Any) -> None:
    assert_same(template, graph.api, on_canvas["output"])
    saved_again = to_api(on_canvas["workflow"], comfyui.object_info)
    assert bare(saved_again) == bare(on_canvas["output"])


@every
def test_prompt_seed_and_size_are_found(template: str, graph: Graph) -> None:
    found = graph.automatic()
    expected = {
        role: tuple(f"#{target}" for target in targets.split())
        for role, targets in zip(ROLES, BINDINGS[template], strict=True)
    }
    assert {role: tuple(map(str, found.get(role, ()))) for role in ROLES} == expected
    assert all(graph.find(str(target)) == target for targets in found.values() for target in targets)


@every
def test_a_row_is_accepted_and_reads_back_from_its_canvas(graph: Graph, comfyui: Any) -> None:
    api, ui = graph.inject(row(graph), "run/0001")
    assert ui is not None
    assert same_graph(to_api(ui, comfyui.object_info), api)
    status, answer = comfyui.post(api)
    assert (status, answer.get("node_errors")) == (200, {})


@pytest.mark.chromium
@every
def test_the_real_canvas_shows_the_row(template: str, graph: Graph, canvas: Any) -> None:
    api, ui = graph.inject(row(graph), None)
    assert_same(template, api, canvas(ui)["output"])


@pytest.mark.chromium
@pytest.mark.parametrize("template", SAVED_AGAIN)
def test_a_workflow_saved_by_the_canvas_takes_rows_too(on_canvas: Json, comfyui: Any, canvas: Any) -> None:
    graph = Graph(on_canvas["output"], comfyui.object_info, on_canvas["workflow"])
    api, ui = graph.inject(row(graph), None)
    assert bare(canvas(ui)["output"]) == bare(api)
