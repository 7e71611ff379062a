from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from promptmill.driver.workflow import Graph

Edit = Callable[..., Graph]


def problems(graph: Graph) -> str:
    return str(graph.check())


def test_a_good_graph_has_none(graph: Graph) -> None:
    assert graph.check().total == 0


def test_a_missing_class_is_named_once_with_a_guess(edited: Edit) -> None:
    lost = {"images": ["6", 0]}
    found = edited({"7": ("SaveImages", lost), "8": ("SaveImages", lost)}).check()
    assert found.total == 1
    assert "node #7, #8" in str(found)
    assert "did you mean 'SaveImage'?" in str(found)


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("5.cfg", 200.0, "#5.cfg (KSampler): is not a number from 0.0 to 100.0 (found 200.0)"),
        ("5.steps", 0, "a whole number from 1 to 10000"),
        ("5.steps", "many", "is not of type INT"),
        ("5.sampler_name", "eular", "did you mean 'euler'?"),
        ("1.ckpt_name", "gone.safetensors", "is not a model file on the server"),
        ("6.vae", ["1", 9], "wired to an output that #1 does not have"),
        ("6.vae", ["77", 0], "wired to a node that does not exist"),
        ("6.vae", [], "wired to a node that does not exist"),
        ("6.vae", [4, 0], "wired to a node that does not exist"),
    ],
)
def test_one_fault(edited: Edit, place: str, value: Any, expected: str) -> None:
    found = edited(**{place: value}).check()
    assert found.total == 1
    assert expected in str(found)


def test_what_the_server_converts_is_no_fault(edited: Edit) -> None:
    assert edited(**{"5.steps": "20", "5.cfg": 4, "4.width": 512.0}).check().total == 0


def test_a_missing_input_and_all_faults_together(edited: Edit) -> None:
    graph = edited(**{"5.cfg": 200.0, "1.ckpt_name": "gone.safetensors"})
    del graph.api["6"]["inputs"]["vae"]
    found = graph.check()
    assert found.total == 3
    assert "#6.vae (VAE Decode): is required and missing" in str(found)


def test_growing_inputs(edited: Edit) -> None:
    assert "#8.images.image_0 (Many): is required" in problems(
        edited({"8": ("Many", {}), "9": ("PreviewImage", {"images": ["8", 0]})})
    )
    assert (
        edited({"8": ("Many", {"images.image_0": ["6", 0]}), "9": ("PreviewImage", {"images": ["8", 0]})})
        .check()
        .total
        == 0
    )


def test_inputs_of_the_chosen_option_are_checked(edited: Edit) -> None:
    inputs = {"images": ["6", 0], "filename_prefix": "x", "format": "png"}
    assert "#7.format.bit_depth" in problems(edited({"7": ("SaveImageAdvanced", inputs)}))
    assert (
        problems(edited({"7": ("SaveImageAdvanced", {**inputs, "format": "exr", "format.gain": 1.0})})) == ""
    )


def test_what_is_not_executed_is_not_judged(edited: Edit) -> None:
    assert edited({"8": ("EmptyLatentImage", {"width": -5})}).check().total == 0
