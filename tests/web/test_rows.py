"""Queue all rows, and the panel."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.comfyui, pytest.mark.chromium]
EXAMPLES = Path(__file__).parents[2] / "samples"
FOUR = "id,prompt\na,a red mug\nb,a blue vase\nc,a yellow ball\nd,a green teapot\n"
LINE = ".pm-panel .pm-line"
PART = re.compile("[1-3] of 4 done")
JOBS = re.compile(r"/jobs\?status=pending,in_progress,failed$")
EMPTY = "app.loadGraphData({ nodes: [], links: [], version: 0.4 })"
TABLE = re.compile("/promptmill/table$")


def our_prompts(canvas: Any) -> list[Any]:
    """What the server has done for the page's folder, oldest first."""
    history = canvas.get("/history").values()
    return [entry for entry in history if canvas.folder in str(entry["prompt"][2])]


def table_text(canvas: Any, count: int) -> str:
    return "id,prompt\n" + "".join(f"r{i:04},a red mug\n" for i in range(1, count + 1))


def test_every_row_of_a_dropped_table_becomes_an_image_under_its_name(canvas: Any) -> None:
    canvas.build_demo(rows="1-3")
    canvas.page.evaluate("app.graph.remove(app.graph.nodes[0])")
    canvas.drop("products_gbk.csv", (EXAMPLES / "products_gbk.csv").read_bytes(), 700, 780)
    canvas.page.wait_for_selector(".pm-rows td")
    canvas.page.evaluate(
        """(folder) => {
          const [table, row] = ["PromptmillPromptTable", "PromptmillTableRow"].map((type) => app.graph.nodes.find((n) => n.type === type));
          for (const [name, value] of Object.entries({ rows: "1-3", folder }))
            table.widgets.find((w) => w.name === name).value = value;
          table.connect(0, row, 0);
        }""",
        canvas.folder,
    )
    canvas.open_panel()

    canvas.queue_all()

    canvas.page.wait_for_selector(".p-toast >> text=3 of 3 done, 0 failed")
    assert canvas.files() == ["CHA-002_1.png", "LAM-003_1.png", "MUG-001_1.png"]
    assert canvas.page.locator(f"{LINE}.pm-is-done").count() == 3
    for picture in canvas.page.locator(f"{LINE} img").all():
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 128


def test_widgets_are_left_as_they_are(classic: Any) -> None:
    classic.build_rows(FOUR)
    before = classic.values("PromptmillTableRow")
    classic.open_panel()

    classic.queue_all()
    classic.wait_for_words("4 of 4 done")

    assert classic.values("PromptmillTableRow") == before
    assert [
        entry["prompt"][3]["extra_pnginfo"]["workflow"]["nodes"][1]["widgets_values"][0]
        for entry in our_prompts(classic)
    ] == [1, 2, 3, 4]


def test_the_button_on_the_node_queues_its_rows(canvas: Any) -> None:
    canvas.build_rows(FOUR, variants=2)

    canvas.page.click(".pm-progress .pm-primary")

    canvas.page.wait_for_selector(".pm-progress >> text=8 of 8 done")
    assert canvas.files() == [f"{name}_{variant}.png" for name in "abcd" for variant in (1, 2)]


def test_pressing_twice_and_after_the_end_makes_nothing_twice(classic: Any) -> None:
    classic.build_demo(file="(pasted text)", text=FOUR)
    classic.open_panel()
    release = classic.hold()

    classic.queue_all()
    classic.wait_for_words("4 in the queue")
    classic.queue_all()
    classic.page.wait_for_timeout(1000)
    release()
    classic.wait_for_words("4 of 4 done")
    classic.wait_until_idle()
    classic.queue_all()

    classic.page.wait_for_selector(".p-toast >> text=All 4 images are done.")
    assert len(our_prompts(classic)) == len(classic.manifest()) == 4


def test_a_reload_in_the_middle_is_taken_up_and_makes_nothing_twice(classic: Any) -> None:
    classic.build_demo(steps=20, file="(pasted text)", text=FOUR)
    classic.save_draft()
    classic.open_panel()
    classic.queue_all()
    classic.wait_for_words(PART)
    release = classic.hold()

    classic.page.reload()
    classic.wait_until_ready()
    classic.page.wait_for_selector(".pm-progress >> text=in the queue")
    classic.page.click(".pm-progress .pm-primary")
    classic.page.wait_for_timeout(1500)
    release()

    classic.page.wait_for_selector(".pm-progress >> text=4 of 4 done")
    assert len(our_prompts(classic)) == len(classic.manifest()) == 4


def test_rows_that_the_frontends_own_button_makes_are_counted(classic: Any) -> None:
    classic.build_rows("id,prompt\na,a red mug\n")
    classic.open_panel()
    release = classic.hold()

    classic.execute("Comfy.QueuePrompt")
    classic.page.wait_for_timeout(1000)
    classic.wait_for_words("0 of 1 done")
    release()

    classic.wait_for_words("1 of 1 done")


def test_an_answer_about_the_queue_that_comes_late_loses_nothing_queued_since(classic: Any) -> None:
    classic.build_rows(FOUR)
    classic.open_panel()
    release = classic.hold()
    answer = classic.delay(classic.refresh, JOBS)

    classic.queue_all()
    classic.wait_for_words("4 in the queue")
    answer()

    classic.wait_for_words("4 in the queue")
    release()
    classic.wait_for_words("4 of 4 done")


def test_an_answer_about_the_files_that_comes_late_takes_nothing_back(classic: Any) -> None:
    classic.build_rows(FOUR)
    classic.open_panel()
    answer = classic.delay(classic.refresh, TABLE)
    classic.queue_all()
    classic.wait_for_words("4 of 4 done")

    answer()

    classic.wait_for_words("4 of 4 done")


def test_an_answer_about_the_files_takes_no_row_back_that_has_ended_since(classic: Any) -> None:
    classic.build_demo(steps=100, file="(pasted text)", text=FOUR)
    classic.open_panel()
    classic.queue_all()
    classic.wait_for_words("4 in the queue")
    answer = classic.delay(classic.refresh, TABLE)
    classic.wait_for_words(PART)
    done = classic.page.locator(f"{LINE}.pm-is-done").count()

    answer()

    assert classic.page.locator(f"{LINE}.pm-is-done").count() >= done > 0


def test_an_answer_about_the_table_as_it_was_that_comes_late_is_not_shown(classic: Any) -> None:
    classic.build_rows(FOUR)
    classic.open_panel()
    answer = classic.delay(classic.refresh, TABLE)

    classic.change("PromptmillPromptTable", "rows", "1-3")
    classic.wait_for_words("0 of 3 done")
    answer()

    classic.wait_for_words("0 of 3 done")
    assert classic.page.locator(LINE).count() == 3


def test_an_answer_about_another_graph_that_comes_late_is_not_shown(classic: Any) -> None:
    classic.build({"first": ["EmptyImage", [40, 900], {}]}, [])
    classic.build_rows(FOUR)
    classic.open_panel()
    answer = classic.delay(classic.refresh, TABLE)

    classic.page.evaluate(EMPTY)
    classic.build_rows("id,prompt\na,a red mug\n")
    classic.refresh()
    classic.wait_for_words("0 of 1 done")
    answer()

    classic.wait_for_words("0 of 1 done")
    assert classic.page.locator(LINE).count() == 1


def test_an_answer_about_a_graph_that_is_gone_is_not_shown(classic: Any) -> None:
    classic.build_rows(FOUR)
    classic.open_panel()
    answer = classic.delay(classic.refresh, TABLE)

    classic.page.evaluate(EMPTY)
    classic.page.wait_for_selector(LINE, state="detached")
    answer()

    assert classic.page.locator(LINE).count() == 0


def test_rows_that_end_while_a_new_page_asks_for_the_queue_have_ended(classic: Any) -> None:
    classic.build_demo(steps=60, file="(pasted text)", text=FOUR)
    classic.save_draft()
    classic.open_panel()
    classic.queue_all()
    classic.wait_for_words("4 in the queue")
    classic.close_panel()
    answer = classic.delay(classic.page.reload, JOBS, times=2)  # the frontend loads two graphs
    classic.wait_until_ready()

    classic.wait_for(lambda: len(classic.files()) == 4)
    classic.page.wait_for_timeout(500)
    answer()

    words = classic.page.locator(".pm-progress .pm-words").first
    words.filter(has_text="4 of 4 done").wait_for()
    assert "queue" not in words.inner_text()


def test_a_node_that_was_undone_follows_nothing(classic: Any) -> None:
    classic.build_rows(FOUR)
    classic.open_panel()
    classic.wait_for_words("0 of 4 done")
    before = classic.page.query_selector(".pm-progress:not(.pm-panel *) .pm-words")

    classic.page.evaluate("app.loadGraphData(app.graph.serialize())")
    classic.page.wait_for_timeout(500)

    assert before.inner_text() == ""


def test_cancel_takes_back_our_prompts_and_nobody_elses(classic: Any) -> None:
    classic.build_demo(steps=30, file="(pasted text)", text=FOUR)
    classic.open_panel()
    release = classic.hold()
    classic.queue_all()
    classic.wait_for_words("4 in the queue")
    other = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 7}}
    }
    classic.post(
        "/prompt", {"prompt": {**other, "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}}
    )
    release()
    classic.wait_for_words(PART)

    classic.page.click(".pm-panel >> text=Cancel")
    classic.wait_until_idle()

    classic.wait_for(lambda: classic.get("/prompt")["exec_info"]["queue_remaining"] == 0)
    newest = list(classic.get("/history").values())[-1]
    assert newest["status"]["status_str"] == "success"
    assert "EmptyImage" in str(newest["prompt"][2])
    made = len(classic.manifest())
    assert made < 4

    classic.queue_all()
    classic.wait_for_words("4 of 4 done")
    assert len(classic.manifest()) == 4


def test_a_failed_row_says_why_and_is_tried_again(classic: Any) -> None:
    classic.build_rows(FOUR, save={"if_exists": "overwrite"})
    obstacle = classic.base / "output" / classic.folder / "b_1.png"
    obstacle.mkdir(parents=True)
    classic.open_panel()

    classic.queue_all()
    classic.wait_for_words("3 of 4 done · 1 failed")
    failed = classic.page.locator(f"{LINE}.pm-is-failed")
    assert "b_1.png" in failed.inner_text()
    assert "directory" in failed.inner_text().lower()

    obstacle.rmdir()
    classic.queue_all()
    classic.wait_for_words("4 of 4 done")
    assert classic.page.locator(f"{LINE}.pm-is-failed").count() == 0


def test_double_click_gives_the_rows_own_graph(canvas: Any) -> None:
    canvas.build_rows(FOUR)
    canvas.open_panel()
    canvas.queue_all()
    canvas.wait_for_words("4 of 4 done")

    canvas.page.locator(LINE, has_text="c_1.png").dblclick()

    canvas.page.wait_for_function(
        "app.graph.nodes.find((n) => n.type === 'PromptmillTableRow').widgets.find((w) => w.name === 'row').value === 3"
    )


def test_a_click_opens_the_image(classic: Any) -> None:
    classic.build_rows(FOUR)
    classic.open_panel()
    classic.queue_all()
    classic.wait_for_words("4 of 4 done")

    classic.page.locator(LINE, has_text="b_1.png").click()

    assert classic.page.locator(".pm-viewer img").evaluate("i => i.decode().then(() => i.naturalWidth)") == 64
    classic.page.keyboard.press("Escape")
    classic.page.wait_for_selector(".pm-viewer", state="detached")


def test_thousands_of_rows_are_a_few_elements(classic: Any) -> None:
    classic.build_rows(table_text(classic, 3000))
    classic.open_panel()

    assert classic.page.locator(LINE).count() < 60
    classic.page.locator(".pm-list").evaluate("list => list.scrollTo(0, list.scrollHeight)")
    classic.page.wait_for_selector(f"{LINE} >> text=r3000_1.png")
    assert classic.page.locator(LINE).count() < 60


def test_batches_are_queued_one_after_the_other(classic: Any) -> None:
    classic.build(
        {
            "table": ["PromptmillPromptTable", [40, 60], classic.pasted(FOUR + "e,a red mug\n")],
            "loader": ["CheckpointLoaderSimple", [40, 700], {"ckpt_name": "promptmill-demo.safetensors"}],
            "rows": ["PromptmillEncodeRows", [480, 60], {"rows_per_batch": 2}],
            "image": ["EmptyImage", [860, 60], {"width": 64, "height": 64}],
            "save": ["PromptmillSaveRows", [1160, 60], {}],
        },
        [
            ["table", "table", "rows", "table"],
            ["loader", "CLIP", "rows", "clip"],
            ["rows", "count", "image", "batch_size"],
            ["image", "IMAGE", "save", "images"],
            ["rows", "rows", "save", "rows"],
        ],
    )
    classic.open_panel()

    classic.queue_all()
    classic.wait_for_words("5 of 5 done")

    assert classic.files() == [f"{name}_1.png" for name in "abcde"]
    assert len(our_prompts(classic)) == 3


def test_a_node_for_the_whole_table_is_queued_once_and_followed(classic: Any) -> None:
    classic.build(
        {
            "table": ["PromptmillPromptTable", [40, 60], classic.pasted(FOUR)],
            "loader": ["CheckpointLoaderSimple", [40, 700], {"ckpt_name": "promptmill-demo.safetensors"}],
            "sample": [
                "PromptmillSampleTable",
                [480, 60],
                {"width": 128, "height": 128, "steps": 4, "rows_per_batch": 2},
            ],
        },
        [
            ["table", "table", "sample", "table"],
            *[["loader", name, "sample", name.lower()] for name in ("MODEL", "CLIP", "VAE")],
        ],
    )
    classic.open_panel()

    classic.queue_all()
    classic.wait_for_words("4 of 4 done")

    assert classic.files() == [f"{name}_1.png" for name in "abcd"]
    assert len(our_prompts(classic)) == 1


def test_rows_are_queued_from_inside_a_subgraph(classic: Any) -> None:
    classic.build_rows(FOUR)
    classic.page.evaluate(
        "() => app.graph.convertToSubgraph(new Set(app.graph.nodes.filter((n) => n.type === 'PromptmillTableRow')))"
    )
    classic.open_panel()

    classic.queue_all()
    classic.wait_for_words("4 of 4 done")

    assert classic.files() == [f"{name}_1.png" for name in "abcd"]
    workflows = [entry["prompt"][3]["extra_pnginfo"]["workflow"] for entry in our_prompts(classic)]
    inner = [workflow["definitions"]["subgraphs"][0]["nodes"][0] for workflow in workflows]
    assert [node["widgets_values"][0] for node in inner] == [1, 2, 3, 4]


def test_a_graph_that_the_server_refuses_queues_nothing(classic: Any) -> None:
    classic.refusals = {400}
    classic.build_rows(FOUR)
    classic.open_panel()
    classic.page.evaluate("app.graph.nodes.find((n) => n.type === 'PromptmillSaveRows').disconnectInput(0)")

    classic.queue_all()

    classic.page.wait_for_selector(".p-toast >> text=Save Rows: Required input is missing: images")
    classic.wait_until_idle()
    assert our_prompts(classic) == []


def test_a_graph_without_save_rows_is_told_of(classic: Any) -> None:
    classic.build_rows("id,prompt\na,a red mug\n")
    classic.page.evaluate(
        """() => {
          const preview = LiteGraph.createNode("PreviewImage");
          app.graph.remove(app.graph.nodes.find((n) => n.type === "PromptmillSaveRows"));
          app.graph.add(preview);
          app.graph.nodes.find((n) => n.type === "EmptyImage").connect(0, preview, 0);
        }"""
    )
    classic.open_panel()

    classic.queue_all()

    classic.page.wait_for_selector(".p-toast >> text=Connect Save Rows")


def test_a_command_queues_the_only_rows_and_asks_where_there_are_more(classic: Any) -> None:
    classic.build_rows(FOUR)
    classic.page.evaluate("() => app.graph.add(LiteGraph.createNode('PromptmillTableRow'))")
    classic.execute("Promptmill.QueueAllRows")
    classic.wait_for(lambda: len(classic.files()) == 4)

    classic.page.evaluate(
        """() => {
          const [table] = app.graph.nodes.filter((n) => n.type === "PromptmillPromptTable");
          table.connect(0, app.graph.nodes.at(-1), 0);
        }"""
    )
    classic.execute("Promptmill.QueueAllRows")

    classic.page.wait_for_selector(".p-toast >> text=select one of them first")


def test_the_canvas_speaks_chinese(open_canvas: Callable[..., Any]) -> None:
    canvas = open_canvas(**{"Comfy.Locale": "zh", "Comfy.VueNodes.Enabled": True})
    canvas.build_rows(FOUR)
    canvas.open_panel()

    canvas.page.click(".pm-panel >> text=全部行入队")

    canvas.wait_for_words("已完成 4/4")
    for shown in ("提示词表", "表格行", "保存行", "文件名", "基础种子", "选择文件…", "图像：4 张"):
        canvas.page.wait_for_selector(f"[data-node-id] >> text={shown}")
    canvas.page.hover("[data-testid=node-widget]:has(:text-is('提示词')) textarea")
    canvas.page.wait_for_selector(".p-tooltip >> text=例如 {prompt}、{style}")


def test_other_outputs_of_the_graph_do_not_run_with_each_row(classic: Any) -> None:
    classic.build_rows(FOUR)
    classic.page.evaluate(
        """(folder) => {
          const [image, save] = ["EmptyImage", "SaveImage"].map((type) => LiteGraph.createNode(type));
          [image, save].forEach((node) => app.graph.add(node));
          image.connect(0, save, 0);
          save.widgets.find((w) => w.name === "filename_prefix").value = `${folder}/other`;
        }""",
        classic.folder,
    )
    classic.open_panel()

    classic.queue_all()
    classic.wait_for_words("4 of 4 done")

    assert classic.files() == ["a_1.png", "b_1.png", "c_1.png", "d_1.png"]


def test_a_changed_table_and_another_graph_are_shown_as_they_are_now(classic: Any) -> None:
    classic.build_rows(FOUR)
    classic.open_panel()
    classic.queue_all()
    classic.wait_for_words("4 of 4 done")

    classic.change("PromptmillPromptTable", "variants", 2)
    classic.wait_for_words("4 of 8 done")
    assert classic.page.locator(LINE).count() == 8

    classic.page.evaluate(EMPTY)
    classic.page.wait_for_function("!document.querySelector('.pm-panel .pm-line')")
