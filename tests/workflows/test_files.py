"""Given the shipped workflows as files, expect all that a colleague and the template browser need."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from promptmill.driver.engine.demo import NAME
from promptmill.table import Job, Jobs, open_table, pasted_table

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
MODEL_FOLDERS = {"checkpoints", "diffusion_models", "text_encoders", "vae"}
TITLE_HEIGHT = 30
THUMBNAIL_BYTES = 60_000

Json = dict[str, Any]
Shipped = Callable[[str], tuple[Json, Json]]


def values(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, (list, dict)):
        for each in content.values() if isinstance(content, dict) else content:
            yield from values(each)


def jobs(inputs: Json, folder: Path) -> list[Job]:
    table = open_table(pasted_table(inputs["text"], folder))
    template = {name: inputs[name] for name in ("prompt", "negative")}
    return list(Jobs(table, **template, name=inputs["file_name"], seed=inputs["base_seed"]))


def tables(api: Json) -> list[Json]:
    return [node["inputs"] for node in api.values() if node["class_type"] == "PromptmillPromptTable"]


def test_each_has_a_picture_and_a_twin_for_the_driver(name: str) -> None:
    picture = WORKFLOWS / f"{name}.jpg"
    Image.open(picture).verify()
    assert picture.stat().st_size < THUMBNAIL_BYTES
    assert (WORKFLOWS / "api" / f"{name}.json").is_file()


def test_nothing_lies_about_that_no_workflow_uses(name: str) -> None:
    titles = {path.stem for path in WORKFLOWS.glob("*.json")}
    assert {path.stem for path in [*WORKFLOWS.glob("*.jpg"), *WORKFLOWS.glob("api/*.json")]} == titles


def test_each_model_says_where_to_get_it(ui: Json) -> None:
    for node in ui["nodes"]:
        models = node["properties"].get("models", [])
        wanted = [text for text in values(node.get("widgets_values")) if text.endswith(".safetensors")]
        assert [model["name"] for model in models] == [text for text in wanted if text != NAME]
        for model in models:
            assert re.fullmatch(rf"https://huggingface\.co/\S+/{re.escape(model['name'])}", model["url"])
            assert model["directory"] in MODEL_FOLDERS


def test_each_node_says_which_pack_it_is_from(ui: Json) -> None:
    for node in ui["nodes"]:
        pack = "promptmill" if node["type"].startswith("Promptmill") else "comfy-core"
        if node["type"] != "MarkdownNote":
            assert node["properties"]["cnr_id"] == pack


def test_nothing_of_the_machine_that_it_was_made_on(ui: Json, api: Json) -> None:
    for text in [*values(ui), *values(api)]:
        assert not re.search(r"(^|\s)(/\w|[A-Za-z]:\\|~/)", text), text


def test_no_node_lies_on_another(ui: Json) -> None:
    boxes = [
        (x, y - TITLE_HEIGHT, x + width, y + height)
        for (x, y), (width, height) in ((node["pos"], node["size"]) for node in ui["nodes"])
    ]
    for one, two in combinations(boxes, 2):
        assert one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]


def test_the_pasted_tables_are_sound(api: Json, tmp_path: Path) -> None:
    for inputs in tables(api):
        assert inputs["file"] == "(pasted text)"
        found = jobs(inputs, tmp_path)
        assert len({job.file for job in found}) == len(found) == 4


def test_one_opens_as_an_app(shipped: Shipped) -> None:
    ui, _ = shipped("Sample Table")
    nodes = {node["id"]: node for node in ui["nodes"]}
    app = ui["extra"]["linearData"]
    assert ui["extra"]["linearMode"]
    for node_id, widget, *_ in app["inputs"]:
        assert widget in nodes[node_id]["widgets_values_named"]
    assert [nodes[node_id]["type"] for node_id in app["outputs"]] == ["PromptmillSampleTable"]


def test_the_prompt_enhancer_is_an_offer(shipped: Shipped) -> None:
    ui, api = shipped("Table to Image (ERNIE")
    off = {str(node["id"]): node["type"] for node in ui["nodes"] if node["mode"]}
    assert sorted(off.values()) == ["CLIPLoader", "RegexReplace", "TextGenerate"]
    assert not off.keys() & api.keys()


def test_a_and_b_differ_in_nothing_but_style(shipped: Shipped, tmp_path: Path) -> None:
    _, api = shipped("A-B by Styles")
    a, b = (jobs(inputs, tmp_path) for inputs in tables(api))
    assert [(job.row.id, job.seed) for job in a] == [(job.row.id, job.seed) for job in b]
    assert [job.file for job in a] == [f"{job.row.id}_a.png" for job in a]
    assert [job.file for job in b] == [f"{job.row.id}_b.png" for job in b]
    assert not {job.prompt for job in a} & {job.prompt for job in b}


@pytest.mark.parametrize(
    "start", ["Table to Image (ERNIE", "Sample Table", "Large Table", "Calibrate Model", "Second Pass"]
)
def test_ernie_is_asked_for_what_it_was_made_for(shipped: Shipped, start: str) -> None:
    _, api = shipped(start)
    nodes = [node["inputs"] for node in api.values() if node["class_type"].startswith("Promptmill")]
    (own,) = (
        {name: node[name] for name in ("width", "height", "steps", "cfg")}
        for node in nodes
        if "steps" in node
    )
    assert own == {"width": 1264, "height": 848, "steps": 8, "cfg": 1}
