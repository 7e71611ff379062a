"""Given rows on the canvas, expect each image once, under its name, with its own graph in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from promptmill.table import read_entries, read_stamp

pytestmark = pytest.mark.comfyui

SAMPLER, SAVER = "7", "9"


def pixels(path: Path) -> Any:
    return np.asarray(Image.open(path)).astype(int)


def distance(one: Path, other: Path) -> int:
    """The largest difference of two pictures, of 255."""
    return int(abs(pixels(one) - pixels(other)).max())


def test_a_row_is_saved_under_its_name_with_a_line_in_the_manifest(canvas, row_graph, folder) -> None:
    ended = canvas.run(row_graph(2, file_name="{id}_{row:03}"))

    assert ended.files(SAVER) == ["b_002.png"]
    (entry,) = read_entries(canvas.output / folder)
    assert (entry.id, entry.row, entry.file, entry.prompt) == (
        "b",
        2,
        "b_002.png",
        "a blue vase on a green background",
    )
    assert Image.open(canvas.output / folder / "b_002.png").size == (64, 64) == (entry.width, entry.height)


def test_a_done_row_runs_nothing_upstream_and_a_deleted_one_is_made_again(canvas, row_graph, folder) -> None:
    canvas.run(row_graph())
    image = canvas.output / folder / "a_1.png"
    made = image.stat().st_mtime_ns

    again = canvas.run(row_graph(save={"filename_prefix": ""}))

    assert again.files(SAVER) == ["a_1.png"]
    assert image.stat().st_mtime_ns == made
    image.unlink()
    canvas.run(row_graph(save={"filename_prefix": ""}))
    assert image.is_file()


def test_nothing_upstream_runs_for_a_row_that_another_server_made(
    canvas, row_graph, folder, pack_base
) -> None:
    graph = row_graph(base_seed=11)
    canvas.run(graph)

    ended = canvas.run(
        {
            **row_graph(base_seed=11),
            "3": graph["3"],
            "6": {**graph["6"], "inputs": {**graph["6"]["inputs"], "width": 128}},
        }
    )

    assert SAMPLER in ended.ran
    assert pixels(canvas.output / folder / "a_1.png").shape == (64, 64, 3), "the sampler was not asked"


def test_a_changed_row_is_made_anew_and_the_old_image_kept(canvas, row_graph, folder) -> None:
    canvas.run(row_graph(base_seed=1))
    first = pixels(canvas.output / folder / "a_1.png")

    canvas.run(row_graph(base_seed=2))

    assert not np.array_equal(pixels(canvas.output / folder / "a_1.png"), first)
    assert np.array_equal(pixels(canvas.output / folder / "superseded" / "a_1.png"), first)


def test_number_and_overwrite_say_what_happens_to_an_image_that_is_there(canvas, row_graph, folder) -> None:
    canvas.run(row_graph())
    out = canvas.output / folder
    before = (out / "a_1.png").stat().st_mtime_ns

    assert canvas.run(row_graph(save={"if_exists": "number"})).files(SAVER) == ["a_1_2.png"]
    assert canvas.run(row_graph(save={"if_exists": "overwrite"})).files(SAVER) == ["a_1.png"]

    assert (out / "a_1.png").stat().st_mtime_ns > before
    assert [entry.file for entry in read_entries(out)] == ["a_1.png", "a_1_2.png", "a_1.png"]


def test_each_image_carries_the_graph_of_its_own_row(canvas, batch_graph, folder) -> None:
    workflow = {
        "nodes": [
            {
                "id": 1,
                "type": "PromptmillPromptTable",
                "widgets_values": ["(pasted text)", "x", "{prompt}", "", "", "", 1, 0, "", "", "auto"],
            },
            {"id": 2, "type": "PromptmillEncodeRows", "widgets_values": [1, 4, 64, 64, 2, 2.5]},
        ]
    }

    canvas.run(batch_graph(), workflow)

    info = Image.open(canvas.output / folder / "b_1.png").info
    prompt, shown = json.loads(info["prompt"]), json.loads(info["workflow"])
    assert prompt["1"]["inputs"]["rows"] == "2"
    assert (prompt["2"]["inputs"]["start"], prompt["2"]["inputs"]["rows_per_batch"]) == (1, 1)
    assert shown["nodes"][0]["widgets_values"][8] == "2"
    assert shown["nodes"][1]["widgets_values"][:2] == [1, 1]
    again = canvas.run(
        {**prompt, "1": {**prompt["1"], "inputs": {**prompt["1"]["inputs"], "folder": folder + "b"}}}
    )
    assert again.files(SAVER) == ["b_1.png"]
    assert distance(canvas.output / f"{folder}b" / "b_1.png", canvas.output / folder / "b_1.png") <= 1


def test_a_batch_of_rows_equals_the_rows_made_alone(canvas, row_graph, batch_graph, folder) -> None:
    for row in (1, 2, 3):
        canvas.run(row_graph(row, folder=folder + "-alone"))

    ended = canvas.run(batch_graph())

    assert ended.files(SAVER) == ["a_1.png", "b_1.png", "c_1.png"]
    for name in ended.files(SAVER):
        assert distance(canvas.output / folder / name, canvas.output / f"{folder}-alone" / name) <= 1


def test_the_last_batch_may_be_smaller_and_beyond_it_is_an_error(canvas, batch_graph) -> None:
    assert canvas.run(batch_graph(3, 2)).files(SAVER) == ["c_1.png"]
    assert "the table ends before this image" in canvas.run(batch_graph(4, 2)).error


def test_a_latent_of_another_count_is_refused(canvas, batch_graph) -> None:
    ended = canvas.run(batch_graph(1, 3, latents=2))

    assert ended.status == "error"
    assert "3" in ended.error
    assert "2" in ended.error


def test_the_noise_of_other_rows_is_refused(canvas, batch_graph) -> None:
    graph = batch_graph(1, 2, text="id,prompt\na,a red mug\nb,a blue vase\nc,a ball\n")
    others = batch_graph(1, 2, text="id,prompt\na,a red mug\nc,a ball\n")
    graph["31"], graph["32"] = (
        others["1"],
        {**others["2"], "inputs": {**others["2"]["inputs"], "table": ["31", 0]}},
    )
    graph["4"]["inputs"]["rows"] = ["32", 0]

    assert "connect Row Noise of the same rows" in canvas.run(graph).error


def test_a_line_that_a_crash_cost_is_added_when_the_row_is_seen_again(canvas, row_graph, folder) -> None:
    canvas.run(row_graph())
    manifest = canvas.output / folder / "manifest.jsonl"
    line = manifest.read_bytes()
    manifest.unlink()

    canvas.run(row_graph())

    assert json.loads(manifest.read_bytes())["sha256"] == json.loads(line)["sha256"]


def test_half_a_file_is_not_done(canvas, row_graph, folder) -> None:
    canvas.run(row_graph())
    image = canvas.output / folder / "a_1.png"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])

    canvas.run(row_graph())

    assert Image.open(image).convert("RGB").tobytes()


@pytest.mark.parametrize(
    "workflow", [{"nodes": [{}]}, {"nodes": None}, [1], "x", {"nodes": [], "definitions": None}]
)
def test_whatever_a_client_sends_as_workflow_costs_no_image(canvas, row_graph, workflow: Any) -> None:
    ended = canvas.run(row_graph(), workflow)

    canvas.post("/history", {"clear": True})  # ComfyUI's own list of jobs fails on such a workflow
    assert ended.files(SAVER) == ["a_1.png"]


def test_under_a_prefix_it_saves_as_save_image_does(canvas, row_graph, folder) -> None:
    graph = row_graph(save={"filename_prefix": f"{folder}/x/y"})

    assert [canvas.run(graph).files(SAVER), canvas.run(graph).files(SAVER)] == [
        ["y_00001_.png"],
        ["y_00002_.png"],
    ]
    assert read_stamp(canvas.output / folder / "x" / "y_00001_.png")["id"] == "a"
    assert "outside the output folder" in canvas.run(row_graph(save={"filename_prefix": "../y"})).error


def test_skip_if_done_lets_a_row_through_once_before_core_s_own_saver(canvas, row_graph, folder) -> None:
    graph = row_graph()
    graph["20"] = {"class_type": "PromptmillSkipIfDone", "inputs": {"value": ["8", 0], "rows": ["2", 0]}}
    graph["21"] = {"class_type": "SaveImage", "inputs": {"images": ["20", 0], "filename_prefix": ["2", 9]}}
    del graph[SAVER]

    first, again = canvas.run(graph), canvas.run(graph)

    assert first.files("21") == ["a_1_00001_.png"]
    assert "21" not in again.outputs
    assert len(list((canvas.output / folder).glob("*.png"))) == 1


def test_skip_if_done_sees_what_save_rows_made(canvas, row_graph, folder) -> None:
    graph = row_graph()
    graph["20"] = {"class_type": "PromptmillSkipIfDone", "inputs": {"value": ["8", 0], "rows": ["2", 0]}}
    graph["21"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["20", 0], "filename_prefix": f"{folder}/core"},
    }
    del graph[SAVER]
    other = row_graph()

    first = canvas.run(graph)
    canvas.run(other)
    again = canvas.run(
        {
            **graph,
            "21": {**graph["21"], "inputs": {**graph["21"]["inputs"], "filename_prefix": f"{folder}/two"}},
        }
    )

    assert first.files("21") == ["core_00001_.png"]
    assert "21" not in again.outputs
    assert not list((canvas.output / folder).glob("two*"))


def test_a_column_goes_through_core_nodes_as_a_list(canvas, row_graph, folder) -> None:
    graph = row_graph()
    graph["2"] = {"class_type": "PromptmillTableColumn", "inputs": {"table": ["1", 0], "column": "prompt"}}
    graph["4"]["inputs"]["text"] = ["2", 0]
    graph["5"]["inputs"]["text"] = ""
    graph["6"]["inputs"].update(width=64, height=64)
    graph["7"]["inputs"].update(seed=1, steps=2, cfg=1.0)
    graph["9"]["inputs"]["rows"] = ["2", 1]

    assert sorted(canvas.run(graph).files(SAVER)) == ["a_1.png", "b_1.png", "c_1.png"]
    graph["2"]["inputs"]["column"] = "colour"
    assert "one of: id, prompt, negative, seed, file" in canvas.run(graph).error
