from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from promptmill.driver.workflow import load_workflow
from promptmill.errors import WorkflowError

Json = dict[str, Any]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    def save(content: Any, name: str = "w.json") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return save


@pytest.fixture
def png(tmp_path: Path) -> Callable[..., Path]:
    def save(**chunks: Any) -> Path:
        info = PngInfo()
        for key, value in chunks.items():
            info.add_text(key, value if isinstance(value, str) else json.dumps(value), zip=key == "workflow")
        path = tmp_path / "w.png"
        Image.new("RGB", (8, 8)).save(path, pnginfo=info)
        return path

    return save


def test_api_and_ui_files_are_told_apart(saved: Any, api: Json, ui: Json) -> None:
    assert load_workflow(saved(api)).kind == "api"
    assert load_workflow(saved({"prompt": api, "client_id": "x"})).api == api
    assert load_workflow(saved(b"\xef\xbb\xbf" + json.dumps(ui).encode())).kind == "ui"


def test_a_png_with_both_forms_keeps_both_where_they_agree(
    png: Any, api: Json, ui: Json, object_info: Json
) -> None:
    api["7"]["inputs"]["filename_prefix"] = "another run"
    graph = load_workflow(png(prompt=api, workflow=ui)).graph(object_info)
    assert graph.api == api
    assert graph.ui == ui


def test_the_api_prompt_of_a_png_wins_over_another_canvas(
    png: Any, api: Json, ui: Json, object_info: Json
) -> None:
    api["5"]["inputs"]["steps"] = 99
    graph = load_workflow(png(prompt=api, workflow=ui)).graph(object_info)
    assert graph.api["5"]["inputs"]["steps"] == 99
    assert graph.ui is None


def test_a_png_with_only_one_form(png: Any, api: Json, ui: Json, object_info: Json) -> None:
    assert load_workflow(png(prompt=api)).graph(object_info).ui is None
    assert load_workflow(png(workflow=ui)).graph(object_info).api["5"]["inputs"]["steps"] == 30


@pytest.mark.parametrize("suffix", [".webp", ".jpg"])
def test_exif_of_other_images(tmp_path: Path, api: Json, ui: Json, suffix: str) -> None:
    image, path = Image.new("RGB", (8, 8)), tmp_path / f"w{suffix}"
    exif = image.getexif()
    exif[0x0110] = "prompt:" + json.dumps(api)
    exif[0x010F] = "Workflow:" + json.dumps(ui)
    image.save(path, exif=exif)
    found = load_workflow(path)
    assert (found.api, found.ui) == (api, ui)


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (b'{"1": {"class_type": }', "w.json", "line 1 column 22"),
        (b"[1, 2]", "w.json", "a JSON object is needed"),
        (b"{}", "w.json", "has no nodes"),
        (b'{"nodes": [], "links": []}', "w.json", "has no nodes"),
        (b'{"a": 1}', "w.json", "neither nodes with class_type"),
        (
            b'{"1": {"class_type": "A", "inputs": {}}, "2": {"inputs": {}}}',
            "w.json",
            "node 2: has no class_type",
        ),
        (b'{"1": {"class_type": "A"}}', "w.json", "node 1: has no inputs"),
        (b"\xff\xfe\x00", "w.json", "UTF-8"),
        (b"not an image", "w.png", "is not a readable image"),
    ],
)
def test_what_is_no_workflow_is_said_with_place_and_hint(
    saved: Any, content: bytes, name: str, expected: str
) -> None:
    with pytest.raises(WorkflowError) as caught:
        load_workflow(saved(content, name))
    assert expected in str(caught.value)
    assert name in caught.value.where
    assert caught.value.hint


def test_an_image_without_metadata_and_a_missing_file(png: Any, tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match="metadata was stripped"):
        load_workflow(png())
    with pytest.raises(WorkflowError, match="No such file"):
        load_workflow(tmp_path / "none.json")


@pytest.mark.parametrize(
    "damage",
    [
        lambda ui: ui["nodes"].append(5),
        lambda ui: ui["nodes"][0].pop("id"),
        lambda ui: ui.update(definitions={"subgraphs": [{"id": "x"}]}, nodes=[{"id": 1, "type": "x"}]),
    ],
)
def test_a_damaged_ui_graph_is_an_error_with_its_file(
    saved: Any, ui: Json, object_info: Json, damage: Any
) -> None:
    damage(ui)
    with pytest.raises(WorkflowError, match=r"w\.json: cannot be converted"):
        load_workflow(saved(ui)).graph(object_info)


def test_a_canvas_with_everything_muted(saved: Any, ui: Json, object_info: Json) -> None:
    for node in ui["nodes"]:
        node["mode"] = 2
    with pytest.raises(WorkflowError, match="muted"):
        load_workflow(saved(ui)).graph(object_info)


def test_nodes_in_a_circle(saved: Any, api: Json, object_info: Json) -> None:
    api["4"]["inputs"]["width"] = ["6", 0]
    with pytest.raises(WorkflowError, match="in a circle"):
        load_workflow(saved(api)).graph(object_info)
