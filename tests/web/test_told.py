"""Given a node that says what it did, expect the text on it, whole, for as long as it is true."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.comfyui, pytest.mark.chromium]
LOADER = "PromptmillLoadCheckpoint"
AREA = ".pm-told"
VALUE = "document.querySelector('textarea.pm-told')?.value"
TOLD = f"{VALUE}?.includes('promptmill-demo')"
SERIALIZED = "JSON.stringify(app.graph.serialize().nodes)"


@pytest.fixture
def checkpoint(canvas: Any) -> Iterator[str]:
    """The demo checkpoint, by a name that ComfyUI remembers nothing of."""
    folder = canvas.base / "models" / "checkpoints"
    link = folder / f"promptmill-demo-{uuid.uuid4().hex}.safetensors"
    link.symlink_to(folder / "promptmill-demo.safetensors")
    yield link.name
    link.unlink()


@pytest.fixture
def loaded(canvas: Any, checkpoint: str) -> Any:
    """The canvas, where a loader has run."""
    nodes = {
        "load": [LOADER, [100, 80], {"ckpt_name": checkpoint, "precision": "as it is"}],
        "show": ["PreviewAny", [700, 80], {}],
    }
    canvas.build(nodes, [["load", "info", "show", "source"]])
    run(canvas)
    canvas.page.wait_for_function(TOLD)
    return canvas


def run(canvas: Any) -> None:
    before = finished(canvas)
    canvas.execute("Comfy.QueuePrompt")
    canvas.wait_for(lambda: finished(canvas) > before)


def finished(canvas: Any) -> int:
    return len(canvas.get("/history"))


def set_loader(canvas: Any, name: str, value: object) -> None:
    canvas.page.evaluate(
        "([type, name, value]) => { const node = app.graph.nodes.find((each) => each.type === type);"
        " node.widgets.find((each) => each.name === name).value = value; }",
        [LOADER, name, value],
    )


def reload(canvas: Any) -> None:
    """The frontend writes a draft of the workflow a moment after it was changed."""
    canvas.page.evaluate("app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState()")
    canvas.page.wait_for_timeout(1500)
    canvas.page.reload()
    canvas.wait_until_ready()
    canvas.page.wait_for_selector(AREA)


def test_what_a_loader_tells_is_on_its_node(loaded: Any) -> None:
    assert "loaded as it is (as chosen)" in loaded.page.evaluate(VALUE)


def test_a_long_text_can_be_read_to_its_end(canvas: Any, checkpoint: str) -> None:
    canvas.build({"load": [LOADER, [100, 80], {"ckpt_name": checkpoint}]}, [])
    line = "what this node did, and why, in words that do not fit into one line of it\n"
    canvas.page.evaluate("(text) => app.graph.nodes[0].onExecuted({ text: [text] })", 40 * line + "the end")

    shown = canvas.page.locator(AREA)
    inner, outer = shown.evaluate("(area) => [area.scrollHeight, area.clientHeight]")
    assert inner > outer > 100
    shown.click()
    canvas.page.mouse.wheel(0, inner)

    canvas.page.wait_for_function(
        "(area) => area.scrollTop + area.clientHeight > area.scrollHeight - 2", arg=shown.element_handle()
    )


def test_it_is_there_after_the_page_was_loaded_anew(loaded: Any) -> None:
    reload(loaded)

    loaded.page.wait_for_function(TOLD)


def test_it_is_there_after_rows_for_which_the_model_stayed_loaded(loaded: Any) -> None:
    loaded.build({"more": ["PreviewAny", [700, 380], {}]}, [])
    loaded.page.evaluate("app.graph.nodes[0].connect(3, app.graph.nodes[2], 0)")
    loaded.post("/history", {"clear": True})
    run(loaded)

    reload(loaded)

    loaded.page.wait_for_function(TOLD)


def test_it_is_there_in_a_tab_that_is_opened_again(loaded: Any) -> None:
    loaded.execute("Comfy.NewBlankWorkflow")
    loaded.page.wait_for_selector(AREA, state="detached")
    loaded.post("/history", {"clear": True})

    loaded.execute("Workspace.PreviousOpenedWorkflow")

    loaded.page.wait_for_function(TOLD)


def test_nothing_is_told_of_other_settings_than_those_that_ran(loaded: Any) -> None:
    set_loader(loaded, "precision", "int8")

    with loaded.page.expect_response("**/history?*"):
        reload(loaded)

    loaded.page.wait_for_timeout(200)
    assert loaded.values(LOADER)["precision"] == "int8"
    assert loaded.page.evaluate(VALUE) == ""


def test_the_workflow_stays_as_it_was(canvas: Any, checkpoint: str) -> None:
    canvas.build(
        {"load": [LOADER, [100, 80], {"ckpt_name": checkpoint}], "show": ["PreviewAny", [700, 80], {}]},
        [["load", "info", "show", "source"]],
    )
    before = canvas.page.evaluate(SERIALIZED)

    run(canvas)

    canvas.page.wait_for_function(TOLD)
    assert json.loads(canvas.page.evaluate(SERIALIZED)) == json.loads(before)
