"""Given tables good and bad, expect the canvas to show them or to say what to do; and no way out of the folders."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.comfyui


@pytest.fixture
def file(canvas) -> Any:
    """Write a table into the input folder."""
    names: list[Path] = []

    def write(content: bytes | str, suffix: str = ".csv") -> str:
        path = canvas.input / f"{uuid.uuid4().hex}{suffix}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        names.append(path)
        return path.name

    yield write
    for path in names:
        path.unlink()


def look(canvas, table, **inputs: Any) -> tuple[int, Any]:
    status, body = canvas.post("/promptmill/table", table(**inputs)["inputs"])
    return status, body


def test_a_gbk_table_is_shown_with_its_encoding_rows_and_names(canvas, table, file) -> None:
    name = file("编号,提示词\n杯一,红色陶瓷马克杯放在木桌上\n杯二,蓝色玻璃花瓶放在窗边\n".encode("gb18030"))

    status, shown = look(canvas, table, file=name)

    assert status == 200
    assert (shown["encoding"], shown["columns"], shown["count"]) == ("gb18030", ["编号", "提示词"], 2)
    assert shown["first"][1] == ["杯二", "蓝色玻璃花瓶放在窗边"]
    assert [(job["row"], job["id"], job["file"], job["done"]) for job in shown["jobs"]] == [
        (1, "杯一", "杯一_1.png", False),
        (2, "杯二", "杯二_1.png", False),
    ]


def test_the_look_tells_which_rows_are_done(canvas, table, row_graph) -> None:
    canvas.run(row_graph(2))

    _, shown = look(canvas, table)

    assert [job["done"] for job in shown["jobs"]] == [False, True, False]


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"text": ""}, "there is no table yet"),
        ({"text": "id,prompt\n"}, "no rows"),
        ({"text": "id,prompt\na,x,y\n"}, "line 2"),
        ({"file": "gone.csv"}, "there is no such table"),
        ({"file": "../../etc/passwd"}, "there is no such table"),
        ({"file": "/etc/passwd"}, "there is no such table"),
        ({"rows": "9"}, "no row is chosen"),
        ({"variants": 0}, "1 to 1000 variants"),
        ({"variants": 10**6}, "1 to 1000 variants"),
        ({"folder": "what?"}, "type the name of a folder"),
        ({"rows": "x"}, "not row numbers"),
        ({"prompt": "{promt}"}, "did you mean {prompt}"),
        ({"folder": "../out"}, "stays inside the output folder"),
        ({"folder": "/tmp"}, "absolute"),
        ({"folder": "a\r\nb"}, "cannot contain"),
        ({"file_name": "{prompt}\r\nSet-Cookie: x"}, "cannot contain"),
        ({"file_name": "../../{id}.png"}, "stays inside the output folder"),
        ({"file_name": "{id}.exe/{id}.png/x"}, "like an image"),
        ({"text": "id,prompt\na,{x.__class__}\n", "prompt": "{prompt.__class__}"}, "no column or value"),
    ],
)
def test_what_is_wrong_is_said_where_it_is(
    canvas, table, row_graph, inputs: dict[str, Any], told: str
) -> None:
    _, shown = look(canvas, table, **inputs)

    assert shown["error"]
    assert told in shown["text"]
    assert canvas.get("/queue")["queue_pending"] == []


def test_a_link_out_of_the_input_folder_is_no_table(canvas, table, tmp_path) -> None:
    (tmp_path / "secret.csv").write_text("prompt\nsecret\n", encoding="utf-8")
    link = canvas.input / f"{uuid.uuid4().hex}.csv"
    link.symlink_to(tmp_path / "secret.csv")

    _, shown = look(canvas, table, file=link.name)

    link.unlink()
    assert "there is no such table" in shown["text"]


def test_a_link_out_of_the_output_folder_is_refused_before_anything_is_made(
    canvas, row_graph, folder, tmp_path
) -> None:
    (canvas.output / folder).symlink_to(tmp_path, target_is_directory=True)
    inside = canvas.output / f"{folder}-2"
    inside.mkdir()
    (inside / "x").symlink_to(tmp_path, target_is_directory=True)

    (canvas.output / f"{folder}-3").mkdir()
    (canvas.output / f"{folder}-3" / "manifest.jsonl").symlink_to(tmp_path / "manifest.jsonl")

    assert "outside of ComfyUI's output folder" in canvas.run(row_graph()).error
    assert "outside of ComfyUI's output folder" in canvas.run(row_graph(folder=f"{folder}-3")).error
    assert (
        "outside of ComfyUI's output folder"
        in canvas.run(row_graph(folder=inside.name, file_name="x/{id}.png")).error
    )
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_told_before_anything_is_queued(canvas, row_graph) -> None:
    status, reply = canvas.post("/prompt", {"prompt": row_graph(file="gone.csv")})

    assert status == 400
    (fault,) = reply["node_errors"]["1"]["errors"]
    assert "drop the file onto the Prompt Table node" in fault["details"]


def test_an_edited_file_is_read_again(canvas, row_graph, file, folder) -> None:
    name = file("id,prompt\na,a red mug\n")
    canvas.run(row_graph(file=name))
    (canvas.input / name).write_text("id,prompt\nz,a blue vase\n", encoding="utf-8")

    assert canvas.run(row_graph(file=name)).files("9") == ["z_1.png"]


def test_another_file_in_the_input_folder_is_in_the_list(canvas, file) -> None:
    name = file("prompt\nx\n", ".tsv")
    hidden = canvas.input / ".hidden.csv"
    hidden.write_text("prompt\nx\n", encoding="utf-8")

    info = canvas.get("/object_info/PromptmillPromptTable")["PromptmillPromptTable"]

    hidden.unlink()
    options = info["input"]["required"]["file"][1]["options"]
    assert name in options
    assert ".hidden.csv" not in options


def test_past_the_last_row_is_an_error_and_never_the_first_row_again(canvas, row_graph) -> None:
    assert "the last chosen row is 3" in canvas.run(row_graph(4)).error


def test_rows_of_different_size_are_no_batch(canvas, batch_graph) -> None:
    ended = canvas.run(batch_graph(text="id,prompt,width\na,a red mug,64\nb,a blue mug,128\n"))

    assert "the rows of a batch need the same width (found '64, 128')" in ended.error


@pytest.mark.parametrize("body", [{}, [], 5, {"file": "x"}, {"variants": "x"}, {"variants": None}])
def test_the_route_says_what_it_expects(canvas, table, body: Any) -> None:
    if isinstance(body, dict) and "variants" in body:
        body = {**table()["inputs"], **body}
    status, reply = canvas.post("/promptmill/table", body)

    assert status == 400
    assert "base_seed" in reply["text"]
