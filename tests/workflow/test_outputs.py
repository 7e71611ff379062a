from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from promptmill.driver.workflow import Graph, Target
from promptmill.errors import WorkflowError

Edit = Callable[..., Graph]
SAVE = {"images": ["6", 0], "filename_prefix": "x"}


def test_the_saver_and_its_prefix(graph: Graph) -> None:
    (saver,) = graph.savers()
    assert (saver.node_id, saver.class_type, saver.prefix) == (
        "7",
        "SaveImage",
        Target("7", "filename_prefix"),
    )


@pytest.mark.parametrize(
    ("class_type", "message"), [("PreviewImage", "saves none"), ("SaveImageWebsocket", "keeps no file")]
)
def test_a_graph_that_saves_nothing(edited: Edit, class_type: str, message: str) -> None:
    with pytest.raises(WorkflowError, match=message) as caught:
        edited({"7": (class_type, {"images": ["6", 0]})}).savers()
    assert "Save Image" in caught.value.hint


def test_images_of_a_job_are_batch_times_savers(edited: Edit) -> None:
    graph = edited({"8": ("SaveImage", SAVE)}, **{"4.batch_size": 3})
    assert graph.images_per_job({}) == 6
    assert graph.images_per_job({Target("4", "batch_size"): 1}) == 2


@pytest.mark.parametrize(
    ("changes", "values", "expected"),
    [
        ({}, {}, (1024, 1024)),
        ({}, {Target("4", "width"): 640}, (640, 1024)),
        ({}, {Target("4", "width"): 1000}, None),
        ({"4": ("VAEEncode", {"pixels": ["8", 0], "vae": ["1", 2]}), "8": ("LoadImage", {"image": "cat.png"})}, {}, None),
        ({"7": ("SaveImage", {**SAVE, "images": ["8", 0]}), "8": ("ImageInvert", {"image": ["6", 0]})}, {}, None),
        ({"7": ("SaveImage", {**SAVE, "images": ["8", 0]}), "8": ("EmptyImage", {"width": 65, "height": 33, "batch_size": 2})}, {}, (65, 33)),
        ({"8": ("SaveImage", {**SAVE, "images": ["9", 0]}), "9": ("EmptyImage", {"width": 65, "height": 33, "batch_size": 1})}, {}, None),
    ],
)  # fmt: skip
def test_the_size_is_told_only_where_it_is_certain(
    edited: Edit, changes: Any, values: Any, expected: Any
) -> None:
    assert edited(changes).expected_size(values) == expected


def test_a_size_by_link_from_a_primitive(edited: Edit) -> None:
    graph = edited({"8": ("PrimitiveInt", {"value": 512})}, **{"4.width": ["8", 0]})
    assert graph.expected_size({}) == (512, 1024)
    assert graph.expected_size({Target("8", "value"): 256}) == (256, 1024)


def test_images_that_cannot_be_counted(edited: Edit) -> None:
    nodes = {"7": ("SaveImage", {**SAVE, "images": ["8", 0]}), "8": ("ImageInvert", {"image": ["6", 0]})}
    assert edited(nodes).images_per_job({}) is None
