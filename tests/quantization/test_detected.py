"""Given the shapes of a real model in a format, expect ComfyUI to take it for the same model as before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

MODELS = ("sd15", "sdxl", "ltxv", "flux", "z-image", "sd3", "qwen-image", "ernie-image")
FORMS = ("fp8", "int8", "nvfp4")
CASES = [[model, form] for model in MODELS for form in FORMS]
LISTED = [[None, form] for form in FORMS]

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module")
def seen(in_comfyui):
    return in_comfyui(Path(__file__).with_name("detected_by_comfyui.py"), CASES + LISTED)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_it_is_the_same_model(seen, case):
    found = seen[json.dumps(case)]

    assert found["before"][0] == found["expected"]
    assert found["after"] == found["before"]
    assert found["share"] > 0.6, "and yet most of it is quantized"


@pytest.mark.parametrize("form", FORMS)
def test_every_model_of_comfyuis_list_is_the_same_and_only_its_linear_layers_are_quantized(seen, form):
    found = seen[json.dumps([None, form])]

    assert len(found) > 50
    assert {name: looked["not linear"] for name, looked in found.items() if looked["not linear"]} == {}
    assert {name for name, looked in found.items() if looked["after"] != looked["before"]} == set()
