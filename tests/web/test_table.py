"""Tables on the canvas: dropped, chosen, shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.comfyui, pytest.mark.chromium]
EXAMPLES = Path(__file__).parents[2] / "samples"
TABLE = "PromptmillPromptTable"
ERROR = ".pm-preview .pm-error"


def cells(canvas: Any, place: str) -> list[str]:
    canvas.page.wait_for_selector(".pm-rows tbody tr")
    found: list[str] = canvas.page.locator(f".pm-rows {place}").all_inner_texts()
    return found


def drop_on_node(canvas: Any, name: str, content: bytes) -> None:
    x, y = canvas.page.evaluate(
        "(type) => { const { pos, size } = app.graph.nodes.find((n) => n.type === type);"
        " return app.canvasPosToClientPos([pos[0] + size[0] / 2, pos[1] + size[1] - 12]); }",
        TABLE,
    )
    canvas.drop(name, content, int(x), int(y))


def test_a_gbk_table_dropped_on_the_canvas_shows_its_rows(canvas: Any) -> None:
    canvas.drop("products_gbk.csv", (EXAMPLES / "products_gbk.csv").read_bytes(), 500, 150)

    assert cells(canvas, "th") == ["sku", "name", "style", "prompt"]
    assert cells(canvas, "tbody tr:first-child td")[:2] == ["MUG-001", "红色马克杯"]
    words = canvas.page.inner_text(".pm-preview .pm-words")
    assert words.startswith("Images: 24")
    assert "GB18030" in words
    assert canvas.values(TABLE)["file"] == "promptmill/products_gbk.csv"
    left, top = canvas.page.evaluate("app.canvasPosToClientPos([...app.graph.nodes[0].pos])")
    assert (round(left), round(top)) == (500, 150)


def test_a_text_file_dropped_on_the_node_changes_it(canvas: Any) -> None:
    canvas.build({"table": [TABLE, [100, 100], canvas.pasted("a red mug")]}, [])
    cells(canvas, "td")

    drop_on_node(canvas, "two.txt", b"a red mug\na blue vase\n")

    canvas.page.wait_for_selector(".pm-rows >> text=a blue vase")
    assert canvas.values(TABLE)["file"] == "promptmill/two.txt"


def test_a_file_is_chosen_by_the_button(canvas: Any, tmp_path: Path) -> None:
    path = tmp_path / "chosen.csv"
    path.write_bytes(b"id,prompt\nx,a green teapot\n")
    canvas.build({"table": [TABLE, [100, 100], canvas.pasted("a red mug")]}, [])
    cells(canvas, "td")

    with canvas.page.expect_file_chooser() as chooser:
        canvas.page.click("text=Choose file...")
    chooser.value.set_files(path)

    canvas.page.wait_for_selector(".pm-rows >> text=a green teapot")


@pytest.mark.parametrize(("answer", "stays"), [("Cancel", True), ("Overwrite", False)])
def test_another_file_of_the_same_name_is_replaced_only_if_the_user_says_so(
    classic: Any, answer: str, stays: bool
) -> None:
    name, old, new = f"{classic.folder}.csv", b"id,prompt\na,old\n", b"id,prompt\na,new\n"
    classic.drop(name, old, 400, 200)
    cells(classic, "td")

    drop_on_node(classic, name, new)
    classic.page.get_by_role("dialog").get_by_role("button", name=answer).click()

    file = classic.base / "input" / "promptmill" / name
    classic.page.wait_for_selector(f".pm-rows >> text={'old' if stays else 'new'}")
    classic.wait_for(lambda: file.read_bytes() == (old if stays else new))


def test_the_same_file_again_asks_nothing(classic: Any) -> None:
    for x in (200, 800):
        classic.drop("same.csv", b"id,prompt\na,a red mug\n", x, 200)

    classic.page.wait_for_function("app.graph.nodes.length === 2")
    assert classic.page.get_by_role("dialog").count() == 0


def test_what_is_wrong_with_a_table_is_said_and_goes_when_it_is_mended(canvas: Any) -> None:
    canvas.build({"table": [TABLE, [100, 100], canvas.pasted("id,style\na,oil\n", prompt="{prompt}")]}, [])
    problem = canvas.page.wait_for_selector(ERROR)
    assert "{" in problem.inner_text()
    assert "hint:" in problem.inner_text()

    canvas.page.evaluate(
        "() => { const w = app.graph.nodes[0].widgets.find((w) => w.name === 'prompt');"
        " w.value = 'a mug, {style}'; w.callback(w.value); }"
    )

    assert cells(canvas, "td") == ["a", "oil"]
    assert canvas.page.locator(ERROR).count() == 0


def test_pasted_text_takes_room_only_where_it_is_used(canvas: Any) -> None:
    box = "textarea[placeholder=text]:visible, label:text-is('text'):visible"
    canvas.build({"table": [TABLE, [100, 100], canvas.pasted("a red mug")]}, [])
    canvas.page.wait_for_selector(box)

    canvas.drop("file.csv", b"id,prompt\na,a red mug\n", 1300, 500)
    canvas.page.evaluate("app.graph.remove(app.graph.nodes[0])")

    canvas.page.wait_for_selector(".pm-rows td")
    assert canvas.page.locator(box).count() == 0


def test_other_files_are_left_to_comfyui(classic: Any) -> None:
    workflow = (Path(__file__).parents[2] / "workflows" / "demo.json").read_bytes()
    classic.drop("demo.json", workflow, 400, 300)

    classic.page.wait_for_function("app.graph.nodes.some((node) => node.type === 'KSampler')")
