"""Given an accelerated model, expect the latents of ComfyUI's own path; where it cannot be, ComfyUI's own path and a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(900)]

Measure = Callable[[dict[str, Any]], dict[str, Any]]

SCRIPT = "accelerated_in_comfyui.py"
EXACT = 1e-5
NEAR = {"fp32": EXACT, "bf16": 1e-2, "fp8 static": 4e-4, "int8": 4e-4, "int8 convrot": 4e-4}
"""Share of the latents' norm; a value that is rounded the other way moves a quantized model by 1e-4."""
COMPILING, OFF = "promptmill: compiling for", "promptmill: not accelerated, "


def case(do: str, *told: object, **given: Any) -> Any:
    named = [f"{key}={value}" for key, value in given.items()]
    return pytest.param({"do": do, **given}, id="-".join(map(str, told or named or [do])))


def lines(found: dict[str, Any], start: str) -> list[str]:
    return [line for line in found["said"] if line.startswith(start)]


@pytest.mark.parametrize(
    "case",
    [
        *(case("near", form=form) for form in NEAR),
        case("near", form="fp8 static", emulated=True),
        case("near", form="fp8 static", backend="inductor"),
        case("near", form="int8 convrot", backend="inductor"),
    ],
)
def test_it_is_the_latent_of_comfyui(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    assert found["from_plain"] <= NEAR[case["form"]]
    assert len(lines(found, COMPILING)) == 1
    assert not lines(found, OFF)
    assert [f"promptmill: {line}" for line in found["told"]] == found["said"]


@pytest.mark.parametrize("case", [case("near", form="fp8 dynamic", massive=False)])
def test_fp8_without_scales_of_inputs_is_as_near_to_the_unquantized_model(
    measure: Measure, case: dict[str, Any]
) -> None:
    found = measure(case)
    assert 0 < found["error"] <= 1.05 * found["plain_error"]


@pytest.mark.parametrize("case", [case("near", form="fp8 dynamic", massive=True)])
def test_fp8_without_scales_of_inputs_is_nearer_where_comfyui_cuts_inputs_off(
    measure: Measure, case: dict[str, Any]
) -> None:
    found = measure(case)
    assert found["error"] < found["plain_error"] / 5


@pytest.mark.parametrize(
    "case",
    [
        case("rows", lengths=[9, 31, 4], cfg=3.0, form="fp32"),
        case("rows", lengths=[9, 9, 9], cfg=3.0, form="fp32"),
        case("rows", lengths=[9, 31, 4], cfg=1.0, form="fp8 static"),
        case("rows", lengths=[9, 31, 4], cfg=1.0, form="int8 convrot"),
    ],
)
def test_a_row_of_a_batch_is_the_image_made_alone(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    assert found["from_alone"] <= NEAR[case["form"]]
    assert found["from_plain"] <= NEAR[case["form"]]
    assert not lines(found, "promptmill: 3 of 3 rows are sampled one at a time")


@pytest.mark.parametrize("case", [case("graphs", lengths=[9, 31, 60, 70])])
def test_one_graph_serves_all_blocks_and_prompts_up_to_the_next_size(
    measure: Measure, case: dict[str, Any]
) -> None:
    assert measure(case)["graphs"] == [1, 0, 0, 1]  # 64 tokens of image: 134 are more than 128


@pytest.mark.parametrize(
    "case",
    [
        case("lora", form="fp32", as_function=False),
        case("lora", form="fp8 static", as_function=False),
        case("lora", form="fp8 static", as_function=True),
        case("lora", form="int8 convrot", as_function=True),
    ],
)
def test_loras_come_and_go(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    assert found["from_plain"] <= NEAR[case["form"]] < found["effect"] / 5
    assert found["again"] == 0
    assert lines(found, COMPILING)
    assert not lines(found, OFF)


@pytest.mark.parametrize("case", [case("requantized")])
def test_only_quantized_weights_are_asked_for_as_they_are_stored(
    measure: Measure, case: dict[str, Any]
) -> None:
    """Where weights are stored in another type than is computed in, as with the node ModelComputeDtype, others would be of the wrong one."""
    assert [False, False] in measure(case)["quantized"]
    assert [False, True] not in measure(case)["quantized"]
    assert [True, True] in measure(case)["quantized"]


@pytest.mark.parametrize("case", [case("streamed")])
def test_blocks_that_are_not_on_the_card_go_comfyuis_way(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    assert found["from_plain"] <= NEAR["fp8 static"]
    assert found["compiled"] == 2 * [True]


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (case("unsupported", what=what).values[0], why)
        for what, why in {
            "another architecture": "Other is not supported",
            "another layer": "self_attention.to_k is a __main__.Linear",
            "unscaled fp8": "adaLN_sa_ln holds torch.float8_e4m3fn without a scale",
            "mxfp8": "MXFP8 is not compiled",
        }.items()
    ],
)
def test_what_is_not_known_here_is_refused(measure: Measure, case: dict[str, Any], why: str) -> None:
    assert measure(case)["why"] == why


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (case("broken", what=what).values[0], why)
        for what, why in {
            "a copy": "the model was copied, to another card or for another node",
            "no compiler": "BackendCompilerFailed: backend='refuse' raised: RuntimeError: no compiler",
        }.items()
    ],
)
def test_what_cannot_be_accelerated_is_said_once_and_sampled_by_comfyui(
    measure: Measure, case: dict[str, Any], why: str
) -> None:
    found = measure(case)
    assert lines(found, OFF) == [OFF + why]
    assert found["from_plain"] <= EXACT
    assert found["again"] == 0


@pytest.mark.parametrize(
    "case",
    [
        case("verified", product="_fp8", form="fp8 static"),
        case("verified", product="_int8", form="int8 convrot"),
    ],
)
def test_verifying_finds_a_wrong_product(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    assert len(lines(found, "promptmill: an accelerated block differs from ComfyUI's by 3")) == 1
    assert found["from_plain"] <= EXACT
    assert found["again"] == 0


@pytest.mark.parametrize(
    ("case", "percent"),
    [
        (case("verified", product="", form="fp8 dynamic").values[0], "5."),
        (case("verified", product="", form="fp8 dynamic", massive=True).values[0], "2."),
    ],
)
def test_verifying_says_how_far_right_ones_are(measure: Measure, case: dict[str, Any], percent: str) -> None:
    """Also where ComfyUI cuts inputs off."""
    found = measure(case)
    said = f"promptmill: beyond rounding, accelerated blocks differ from ComfyUI's by {percent}"
    assert len(lines(found, said)) == 1
    assert found["from_ours"] == 0


@pytest.mark.parametrize("case", [case("little_added")])
def test_what_rounding_makes_is_not_taken_for_a_wrong_block(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    said = "promptmill: beyond rounding, accelerated blocks differ from ComfyUI's by "
    assert len(lines(found, said)) == 1


@pytest.mark.parametrize(
    "case", [case("turned", dtype=dtype, rows=rows) for dtype in ("float32", "bfloat16") for rows in (1, 2)]
)
def test_rope_is_that_of_comfy_kitchen(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    assert found["difference"] <= (1e-6 if case["dtype"] == "float32" else 1e-3)
    assert found["same in planes"]


@pytest.mark.parametrize("case", [case("gelu", approximate="none"), case("gelu", approximate="tanh")])
def test_gelu_is_that_of_pytorch(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    assert found["difference"] <= 1e-6
    assert found["odd"] in (["inf", "0.0", "nan"], ["inf", "-0.0", "nan"])
    assert found["type"] == "torch.bfloat16"


@pytest.mark.parametrize("case", [case("as_before")])
def test_an_error_leaves_comfyuis_modules_as_they_were(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    assert lines(found, COMPILING)
    assert found["same"]


@pytest.mark.parametrize(
    ("case", "first"),
    [
        (case("first_attention", capability=[9, 0]).values[0], "CUDNN_ATTENTION"),
        (case("first_attention", capability=[8, 9]).values[0], "FLASH_ATTENTION"),
    ],
)
def test_cudnn_is_asked_first_where_it_was_measured(
    measure: Measure, case: dict[str, Any], first: str
) -> None:
    found = measure(case)
    assert found["inside"][0] == first
    assert sorted(found["inside"]) == sorted(found["after"])
    assert found["after"][0] == "FLASH_ATTENTION"


@pytest.mark.parametrize("case", [case("tuned")])
def test_pytorch_knows_the_options_of_compiling(measure: Measure, case: dict[str, Any]) -> None:
    assert measure(case)["unknown"] == []
