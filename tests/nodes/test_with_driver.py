"""Given one table, expect the canvas and the driver to go on where the other stopped."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from promptmill.table import read_entries

pytestmark = pytest.mark.comfyui

CSV = "sku,prompt,seed,cfg\nMUG,a red mug on a white background,5,\nVASE,a blue vase,,1.5\nBALL,a yellow ball,,\n"


@pytest.fixture
def products(canvas, folder) -> Path:
    path = canvas.input / f"{folder}.csv"
    path.write_text(CSV, encoding="utf-8")
    yield path
    path.unlink()


@pytest.fixture
def plain_graph(row_graph) -> Any:
    """The same graph without this project's nodes."""
    graph = row_graph()
    del graph["1"], graph["2"]
    graph["4"]["inputs"]["text"] = graph["5"]["inputs"]["text"] = ""
    graph["6"]["inputs"].update(width=64, height=64)
    graph["7"]["inputs"].update(seed=0, steps=2, cfg=2.5)
    graph["9"] = {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "x"}}
    return graph


def drive(canvas, table: Path, graph: Any, out: Path, tmp_path: Path, *more: str) -> dict[str, Any]:
    workflow = tmp_path / "graph.json"
    workflow.write_text(json.dumps(graph), encoding="utf-8")
    command = [sys.executable, "-m", "promptmill", "run", table, "-w", workflow, "--out", out, "--json"]
    ended = subprocess.run(
        [*map(str, command), "--server", canvas.url, *more],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def files(out: Path) -> list[str]:
    return sorted(path.name for path in out.glob("*.png"))


@pytest.mark.parametrize("kind", ["plain", "pack"])
def test_the_driver_keeps_what_the_canvas_made(
    canvas, row_graph, plain_graph, products, folder, tmp_path, kind: str
) -> None:
    for row in (1, 2):
        canvas.run(row_graph(row, file=products.name))
    out = canvas.output / folder
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}

    graph = plain_graph if kind == "plain" else row_graph()
    told = drive(canvas, products, graph, out, tmp_path)

    assert told["made"] == 1
    assert files(out) == ["BALL_1.png", "MUG_1.png", "VASE_1.png"]
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    assert [entry.status for entry in read_entries(out)] == ["done"] * 3
    assert drive(canvas, products, graph, out, tmp_path)["made"] == 0


@pytest.mark.parametrize("kind", ["plain", "pack"])
def test_the_canvas_keeps_what_the_driver_made(
    canvas, table, row_graph, plain_graph, products, folder, tmp_path, kind: str
) -> None:
    out = canvas.output / folder

    drive(canvas, products, plain_graph if kind == "plain" else row_graph(), out, tmp_path, "--rows", "1-2")

    inputs = table(file=products.name)["inputs"]
    _, shown = canvas.post("/promptmill/table", inputs)
    assert [job["done"] for job in shown["jobs"]] == [True, True, False]
    _, changed = canvas.post("/promptmill/table", {**inputs, "prompt": "{prompt}, blue"})
    assert not any(job["done"] for job in changed["jobs"])


def test_the_driver_gives_a_workflow_with_our_nodes_one_row_at_a_time(
    canvas, row_graph, plain_graph, products, folder, tmp_path
) -> None:
    ours, theirs = canvas.output / folder, canvas.output / f"{folder}-plain"
    drive(canvas, products, row_graph(prompt="{prompt}"), ours, tmp_path, "--variants", "2")
    drive(canvas, products, plain_graph, theirs, tmp_path, "--variants", "2")

    assert files(ours) == files(theirs)
    assert len(files(ours)) == 6
    for name in files(ours):
        one, other = Image.open(ours / name), Image.open(theirs / name)
        assert one.tobytes() == other.tobytes()
        assert one.info["promptmill"] == other.info["promptmill"]


TEMPLATES = {"prompt": "{prompt} on a green background", "negative": "a ball {row}", "base_seed": 77}


def test_the_driver_fills_a_prompt_tables_templates_as_the_canvas_does(
    canvas, row_graph, products, folder, tmp_path
) -> None:
    ours, theirs = canvas.output / folder, canvas.output / f"{folder}-driver"
    graph = row_graph(file=products.name, file_name="{sku}_{row}", variants=2, **TEMPLATES)
    for row in (1, 2, 3):
        for variant in (1, 2):
            graph["2"]["inputs"].update(row=row, variant=variant)
            graph["1"]["inputs"]["file_name"] = "{sku}_{row}_{variant}"
            canvas.run(graph)

    drive(canvas, products, graph, theirs, tmp_path, "--variants", "2")

    assert files(ours) == files(theirs)
    for name in files(ours):
        one, other = Image.open(ours / name), Image.open(theirs / name)
        assert one.info["promptmill"] == other.info["promptmill"]
        assert one.tobytes() == other.tobytes()
    assert {entry.seed for entry in read_entries(ours)} == {entry.seed for entry in read_entries(theirs)}
    assert drive(canvas, products, graph, ours, tmp_path, "--variants", "2")["made"] == 0
    assert None not in {entry.seed for entry in read_entries(ours)}


def test_driver_then_canvas_then_driver_make_a_changed_row_once(
    canvas, row_graph, plain_graph, products, folder, tmp_path
) -> None:
    out = canvas.output / folder
    drive(canvas, products, plain_graph, out, tmp_path)
    products.write_text(CSV.replace("red mug", "green mug"), encoding="utf-8")
    canvas.run(row_graph(1, file=products.name))
    made = (out / "MUG_1.png").read_bytes()

    told = drive(canvas, products, plain_graph, out, tmp_path)

    assert told["made"] == 0
    assert (out / "MUG_1.png").read_bytes() == made
    assert {entry.file: entry.prompt for entry in read_entries(out)}["MUG_1.png"].startswith("a green mug")


def test_an_image_that_the_canvas_replaced_by_another_is_made_again(
    canvas, row_graph, plain_graph, products, folder, tmp_path
) -> None:
    out = canvas.output / folder
    drive(canvas, products, plain_graph, out, tmp_path)
    canvas.run(row_graph(1, file=products.name, prompt="{prompt} and a ball"))

    told = drive(canvas, products, plain_graph, out, tmp_path)

    assert told["made"] == 1
    assert (
        json.loads(Image.open(out / "MUG_1.png").info["promptmill"])["prompt"]
        == "a red mug on a white background"
    )
    for entry in read_entries(out):
        assert hashlib.sha256((out / entry.file).read_bytes()).hexdigest() == entry.sha256


def test_the_lines_of_rows_that_only_the_canvas_made_stay_in_the_manifest(
    canvas, row_graph, plain_graph, products, folder, tmp_path
) -> None:
    out = canvas.output / folder
    canvas.run(row_graph(2, file=products.name))

    drive(canvas, products, plain_graph, out, tmp_path, "--rows", "1")
    drive(canvas, products, plain_graph, out, tmp_path, "--rows", "1")

    assert sorted(entry.file for entry in read_entries(out)) == ["MUG_1.png", "VASE_1.png"]
    assert not (out / "superseded").exists()


def test_a_row_that_changed_since_the_canvas_made_it_is_made_by_the_driver(
    canvas, row_graph, plain_graph, products, folder, tmp_path
) -> None:
    canvas.run(row_graph(1, file=products.name))
    products.write_text(CSV.replace("red mug", "green mug"), encoding="utf-8")

    told = drive(canvas, products, plain_graph, canvas.output / folder, tmp_path)

    assert told["made"] == 3
    assert (canvas.output / folder / "superseded" / "MUG_1.png").is_file()
