"""Given a real ComfyUI with this pack, expect it and its canvas to take each shipped workflow, and the demo to run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from promptmill.driver.engine.demo import NAME
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


def with_the_demo(api: Json, *links: str) -> Json:
    """A graph as it is, with these links to the demo's checkpoint, and small images."""
    loader = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": NAME}}
    own = {name: ["demo", slot] for slot, name in enumerate(("model", "clip", "vae")) if name in links}
    small = {"width": 64, "height": 64, "steps": 2}
    graph = {"demo": loader}
    for key, node in api.items():
        if "steps" in node["inputs"]:
            graph[key] = {**node, "inputs": {**node["inputs"], **own, **small}}
        elif node["class_type"].startswith("Promptmill"):
            graph[key] = node
    return graph


def test_a_and_b_run_side_by_side_with_the_demo_checkpoint(comfyui: Any, shipped: Any) -> None:
    _, api = shipped("A-B by Styles")

    comfyui.run(with_the_demo(api, "model", "clip", "vae"))

    made = sorted(path.name for path in (comfyui.output / "styles").glob("*.png"))
    assert made == sorted(
        f"{sku}_{way}.png" for sku in ("MUG-001", "CHA-002", "LAM-003", "BAC-004") for way in "ab"
    )


def test_the_file_that_is_calibrated_makes_the_large_table(comfyui: Any, shipped: Any) -> None:
    """One workflow's file in the other, not compiled: that takes minutes."""
    (_, calibrate), (_, large) = shipped("Calibrate Model"), shipped("Large Table")
    calibrate = with_the_demo(calibrate, "model", "clip", "vae")
    large = with_the_demo(large, "clip", "vae")
    (measure,) = (node for node in calibrate.values() if node["class_type"] == "PromptmillCalibrateModel")
    (loader,) = (node for node in large.values() if node["class_type"] == "PromptmillLoadModel")
    file = f"{measure['inputs']['file_name']}.safetensors"
    loader["inputs"].update(model_name=file, accelerate=False)

    comfyui.run(calibrate)
    outputs = comfyui.run(large)

    assert "quantized already" in str(outputs)
    made = sorted(path.stem for path in (comfyui.output / "large-table").glob("*.png"))
    assert made == ["BAG-003", "LAM-002", "MUG-001", "TEA-004"]
