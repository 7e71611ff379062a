"""Given a real ComfyUI with this pack, expect it and its canvas to take each shipped workflow, and the demo to run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from promptmill.driver.workflow import Graph
from promptmill.driver.workflow.convert import to_api

pytestmark = pytest.mark.comfyui

Json = dict[str, Any]
ROWS = ("mug", "chair", "lamp", "teapot")


def pixels(path: Path) -> Any:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_the_template_browser_has_it(comfyui: Any, name: str, ui: Json) -> None:
    """ComfyUI lists five folder names and serves only the first of them that a pack has."""
    assert comfyui.get("/workflow_templates").json()["promptmill"].count(name) == 1
    assert comfyui.get(f"/api/workflow_templates/promptmill/{name}.json").json() == ui
    picture = comfyui.get(f"/api/workflow_templates/promptmill/{name}.jpg")
    assert picture.headers["Content-Type"] == "image/jpeg"


def test_the_server_takes_it(comfyui: Any, api: Json) -> None:
    answer = comfyui.validate(api)
    assert answer.get("node_errors") == {}, answer


def test_the_driver_converts_and_takes_it(comfyui: Any, ui: Json, api: Json) -> None:
    assert to_api(ui, comfyui.object_info) == api
    assert str(Graph(api, comfyui.object_info, ui).check()) == ""


def test_the_server_reads_its_tables(comfyui: Any, api: Json) -> None:
    for node in api.values():
        if node["class_type"] == "PromptmillPromptTable":
            found = comfyui.post("/promptmill/table", node["inputs"])
            assert (found["count"], found["folder"]) == (4, node["inputs"]["folder"])


@pytest.mark.chromium
def test_the_canvas_shows_it_whole(canvas: Callable[[Json], Json], ui: Json, api: Json) -> None:
    assert canvas(ui) == {"output": api, "refused": [], "missing": [], "red": [], "trouble": []}


def test_the_demo_makes_the_same_pictures_in_three_ways(comfyui: Any, shipped: Any) -> None:
    _, api = shipped("Demo Checkpoint")
    (row,) = (node["inputs"] for node in api.values() if node["class_type"] == "PromptmillTableRow")

    for row["row"] in range(1, len(ROWS) + 1):
        comfyui.run(api)

    out = comfyui.output / "demo"
    seeds = {}
    for way in ("rows", "batch", "table"):
        lines = [json.loads(line) for line in (out / way / "manifest.jsonl").open(encoding="utf-8")]
        seeds[way] = {line["file"]: line["seed"] for line in lines}
        assert seeds[way].keys() == {f"{name}.png" for name in ROWS}, "each row once"
    assert seeds["rows"] == seeds["batch"] == seeds["table"]
    for name in ROWS:
        alone = pixels(out / "rows" / f"{name}.png")
        assert alone.std() > 20, "a picture"
        for way in ("batch", "table"):
            assert abs(pixels(out / way / f"{name}.png") - alone).max() <= 1, "but for rounding"


def test_a_and_b_run_side_by_side_with_the_demo_checkpoint(comfyui: Any, shipped: Any) -> None:
    """The two branches as they are, with the loaders of the demo and its size."""
    _, api = shipped("A-B by Styles")
    _, demo = shipped("Demo Checkpoint")
    (loader,) = ((key, node) for key, node in demo.items() if node["class_type"] == "CheckpointLoaderSimple")
    sockets = {"model": 0, "clip": 1, "vae": 2}
    small = {"width": 64, "height": 64, "steps": 2}
    graph = {f"demo{loader[0]}": loader[1]}
    for key, node in api.items():
        if node["class_type"] == "PromptmillPromptTable":
            graph[key] = node
        elif node["class_type"] == "PromptmillSampleTable":
            links = {name: [f"demo{loader[0]}", slot] for name, slot in sockets.items()}
            graph[key] = {**node, "inputs": {**node["inputs"], **links, **small}}

    comfyui.run(graph)

    made = sorted(path.name for path in (comfyui.output / "styles").glob("*.png"))
    assert made == sorted(
        f"{sku}_{way}.png" for sku in ("MUG-001", "CHA-002", "LAM-003", "BAC-004") for way in "ab"
    )
