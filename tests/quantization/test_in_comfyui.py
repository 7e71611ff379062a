"""Given a file that `convert` wrote, expect stock ComfyUI to load, run, save and patch it like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from promptmill.driver.engine.demo.export import export

MODELS = ("demo", "ernie", "zimage")
ERROR = {"fp8": 0.08, "int8": 0.03, "nvfp4": 0.3}
STORED_AS = {"fp8": "float8_e4m3fn", "int8": "int8_tensorwise", "nvfp4": "nvfp4"}
CASES = [(model, form) for model in MODELS for form in ERROR]

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, in_comfyui: Callable[..., dict[str, Any]]
) -> dict[tuple[str, str], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("files")
    script = Path(__file__).with_name("loaded_by_comfyui.py")
    return dict(zip(CASES, in_comfyui(script, CASES, folder, export(folder)).values(), strict=True))


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


def test_no_key_is_missing_or_unexpected(found, case):
    assert found[case]["said"] == []


def test_every_layer_of_the_report_is_quantized_there(found, case):
    _, form = case
    assert found[case]["layers"] == found[case]["reported"] > 0
    assert found[case]["formats"] == [STORED_AS[form]]


def test_the_output_is_near(found, case):
    assert 0 < found[case]["error"] < ERROR[case[1]]


def test_saved_by_comfyui_and_loaded_again_it_is_the_same(found, case):
    assert found[case]["saved_layers"] == found[case]["layers"]
    assert found[case]["saved"] == 0


def test_a_lora_on_top_is_as_good_as_one_below(found, case):
    of = found[case]
    assert of["lora_after"] < 2.1 * of["lora_before"]
    if case[1] != "nvfp4":
        assert of["lora_after"] < of["effect_of_lora"] / 3


def test_without_the_lora_it_is_as_before(found, case):
    assert found[case]["without_lora_again"] == 0
