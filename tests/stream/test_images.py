"""Given a table, expect of Sample Table the images that ComfyUI's own nodes make of each row alone."""

from __future__ import annotations

import json
import re
import struct
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import websocket

pytestmark = pytest.mark.comfyui

OBJECTS = ["red mug", "blue chair", "green lamp", "yellow backpack", "white teapot", "red chair", "blue mug"]
LONG = "a product photo of a {} in a bright living room, soft daylight"
SHORT = "{}"
TEXT = 3
"""ComfyUI's kind of binary message that is a text for a node."""


def rows() -> list[dict[str, Any]]:
    """Prompts of two lengths, own seeds, a negative; a row of its own size and one of its own steps and cfg."""
    found = [
        {
            "sku": f"P{number:02}",
            "prompt": (LONG if number % 2 else SHORT).format(name),
            "negative": "film grain" if number == 3 else "",
            "seed": 1000 + number,
            "width": "",
            "height": "",
            "steps": "",
            "cfg": "",
        }
        for number, name in enumerate(OBJECTS)
    ]
    found[4] |= {"width": 96, "height": 64}
    found[5] |= {"steps": 3, "cfg": 2.5}
    return found


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "uni_pc"])
def test_every_image_equals_the_row_made_alone(
    comfy: Any, sample_table: Callable[..., Any], stock: Callable[..., Any], sampler: str
) -> None:
    comfy.write_table("exact.csv", rows())

    outputs = comfy.run(sample_table("exact.csv", table={"folder": f"exact-{sampler}"}, sampler=sampler))

    shown = {image["filename"]: image for image in outputs["3"]["images"]}
    assert sorted(shown) == [f"P{number:02}_1.png" for number in range(len(OBJECTS))]
    for row in rows():
        own = {name: row[name] for name in ("width", "height", "steps", "cfg") if row[name]}
        graph = stock(row["prompt"], row["negative"], seed=row["seed"], sampler_name=sampler, **own)
        alone = comfy.pixels(comfy.run(graph)["7"]["images"][0])
        ours = comfy.pixels(shown[f"{row['sku']}_1.png"])
        assert ours.shape == alone.shape
        assert np.abs(ours - alone).max() <= 1, row["sku"]


def test_each_distinct_text_is_encoded_once(
    comfy: Any, sample_table: Callable[..., Any], tmp_path: Path
) -> None:
    comfy.write_table("texts.csv", [{"prompt": text} for text in ("a red mug", "a blue chair", "a red mug")])
    log = tmp_path / "texts"
    graph = sample_table("texts.csv", table={"negative": "film grain", "variants": 2}, clip=["4", 0])
    graph["4"] = {"class_type": "PromptmillTestRecorder", "inputs": {"clip": ["1", 1], "log": str(log)}}

    outputs = comfy.run(graph)

    assert len(outputs["3"]["images"]) == 6
    assert log.read_text().splitlines() == ["a red mug", "film grain", "a blue chair"]


def test_out_of_memory_halves_the_batch_and_goes_on(
    comfy: Any, sample_table: Callable[..., Any], many_rows: Callable[..., Any], tmp_path: Path
) -> None:
    comfy.write_table("small_card.csv", many_rows(9))
    log = tmp_path / "batches"
    graph = sample_table("small_card.csv", model=["4", 0], rows_per_batch=8, steps=1, cfg=1.0)
    graph["4"] = {
        "class_type": "PromptmillTestSmallCard",
        "inputs": {"model": ["1", 0], "rows": 2, "log": str(log)},
    }

    outputs = comfy.run(graph)

    assert len(outputs["3"]["images"]) == 9
    assert log.read_text().split() == ["8", "4", "2", "2", "2", "2", "1"]
    normal = comfy.run(sample_table("small_card.csv", table={"folder": "big_card"}, steps=1, cfg=1.0))
    for ours, theirs in zip(outputs["3"]["images"], normal["3"]["images"], strict=True):
        assert np.abs(comfy.pixels(ours) - comfy.pixels(theirs)).max() <= 1


def test_too_little_memory_for_one_row_says_what_to_do(
    comfy: Any, sample_table: Callable[..., Any], many_rows: Callable[..., Any], tmp_path: Path
) -> None:
    comfy.write_table("no_card.csv", many_rows(2))
    graph = sample_table("no_card.csv", model=["4", 0], steps=1)
    graph["4"] = {
        "class_type": "PromptmillTestSmallCard",
        "inputs": {"model": ["1", 0], "rows": 0, "log": str(tmp_path / "batches")},
    }

    result = comfy.result(comfy.queue(graph))

    message = dict(result["status"]["messages"])["execution_error"]["exception_message"]
    assert "row 1: the memory does not suffice for one image of this size (found '128 x 128')" in message
    assert "hint: a smaller width and height" in message


def test_a_prefix_saves_as_save_image_does(
    comfy: Any, sample_table: Callable[..., Any], many_rows: Callable[..., Any]
) -> None:
    comfy.write_table("prefix.csv", many_rows(2))

    outputs = comfy.run(sample_table("prefix.csv", steps=1, filename_prefix="attempt/one"))

    assert [(image["subfolder"], image["filename"]) for image in outputs["3"]["images"]] == [
        ("attempt", "one_00001_.png"),
        ("attempt", "one_00002_.png"),
    ]
    assert not (comfy.output / "prefix").exists()


def test_the_canvas_is_told_how_far_it_is(
    comfy: Any, sample_table: Callable[..., Any], many_rows: Callable[..., Any]
) -> None:
    comfy.write_table("told.csv", many_rows(6))
    client = uuid.uuid4().hex
    stream = websocket.create_connection(
        f"{comfy.process.url.replace('http', 'ws')}/ws?clientId={client}", timeout=60
    )

    prompt_id = comfy.queue(sample_table("told.csv", steps=1), client)
    texts, previews, bars = [], 0, []
    while True:
        message = stream.recv()
        if isinstance(message, bytes):
            kind, length = struct.unpack(">II", message[:8])
            if kind == TEXT:
                assert message[8 : 8 + length] == b"3"
                texts.append(message[8 + length :].decode())
            previews += kind != TEXT
            continue
        event = json.loads(message)
        if event["type"] == "progress":
            bars.append((event["data"]["value"], event["data"]["max"]))
        if event["type"] == "executing" and event["data"]["node"] is None:
            break
    stream.close()

    assert [text.split(",")[0] for text in texts] == [f"row {row} of 6" for row in range(1, 7)]
    assert re.fullmatch(r"row 6 of 6, [\d.]+/min, 0 s left", texts[-1])
    assert previews == 6
    assert bars == sorted(bars)
    assert bars[-1] == (6, 6)
    comfy.result(prompt_id)
