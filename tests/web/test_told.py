"""Given a loader that says what it loaded, expect it on the node."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

pytestmark = [pytest.mark.comfyui, pytest.mark.chromium]
TOLD = """
() => app.graph.nodes.find((node) => node.type === "PromptmillLoadCheckpoint")
  .widgets.find((widget) => widget.name === "$$node-text-preview")?.value
"""


@pytest.fixture
def checkpoint(canvas) -> Iterator[str]:
    """The demo checkpoint, by a name that ComfyUI remembers nothing of."""
    folder = canvas.base / "models" / "checkpoints"
    link = folder / f"{uuid.uuid4().hex}.safetensors"
    link.symlink_to(folder / "promptmill-demo.safetensors")
    yield link.name
    link.unlink()


def test_what_a_loader_tells_is_on_its_node(canvas, checkpoint) -> None:
    nodes = {
        "load": ["PromptmillLoadCheckpoint", [100, 80], {"ckpt_name": checkpoint, "precision": "as it is"}],
        "show": ["PreviewAny", [700, 80], {}],
    }
    canvas.build(nodes, [["load", "info", "show", "source"]])

    canvas.execute("Comfy.QueuePrompt")

    canvas.page.wait_for_function(TOLD)
    assert "loaded as it is (as chosen)" in canvas.page.evaluate(TOLD)
