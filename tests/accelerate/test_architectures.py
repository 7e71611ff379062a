"""Given Z-Image, Lumina 2, SD3.5, Flux and Qwen-Image accelerated, expect the latents of ComfyUI's own path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(900)]

Measure = Callable[[dict[str, Any]], dict[str, Any]]

SCRIPT = "architectures_in_comfyui.py"
MODELS = ("zimage", "lumina2", "sd35", "flux", "flux2", "qwen")
EXACT, ROUNDED = 1e-5, 1e-2
"""Shares of the latents' norm, where fp32 and bf16 are computed."""
COMPILING, OFF = "promptmill: compiling for", "promptmill: not accelerated, "


def case(do: str, **given: Any) -> Any:
    return pytest.param({"do": do, **given}, id="-".join([do, *map(str, given.values())]))


def lines(found: dict[str, Any], start: str) -> list[str]:
    return [line for line in found["said"] if line.startswith(start)]


def difference_of_blocks(found: dict[str, Any]) -> float:
    """Percent, when no block was sampled ComfyUI's way."""
    assert not lines(found, OFF)
    (said,) = lines(found, "promptmill: beyond rounding, accelerated blocks differ from ComfyUI's by ")
    return float(said.split()[-4])


@pytest.mark.parametrize(
    "case",
    [*(case("near", name=name, form="fp32") for name in MODELS), case("near", name="sd35", form="bf16")],
)
def test_it_is_the_latent_of_comfyui(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    assert found["from_plain"] <= (EXACT if case["form"] == "fp32" else ROUNDED)
    assert difference_of_blocks(found) == 0


@pytest.mark.parametrize(
    "case",
    [
        *(case("near", name=name, form="fp8 static") for name in ("zimage", "sd35", "qwen")),
        *(case("near", name=name, form="int8 convrot") for name in ("zimage", "flux")),
        case("near", name="flux", form="fp8 static", backend="inductor"),
    ],
)
def test_quantized_blocks_are_those_of_comfyui(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    # ComfyUI rounds the input of INT8's modulation, a vector; ours does not.
    assert difference_of_blocks(found) <= (0.5 if case["form"] == "fp8 static" else 3)
    assert found["error"] <= 1.1 * found["plain_error"]


@pytest.mark.parametrize(
    "case",
    [
        case("verified", name="flux", form="fp8 static", product="_fp8"),
        case("verified", name="sd35", form="int8 convrot", product="_int8"),
    ],
)
def test_verifying_finds_a_wrong_product(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    assert len(lines(found, "promptmill: an accelerated block differs from ComfyUI's by ")) == 1
    assert found["from_plain"] <= EXACT


@pytest.mark.parametrize(
    ("case", "expected"),
    [  # 64 tokens of image: 134 with the text are more than 128
        (case("graphs", name="zimage", lengths=[9, 31, 60, 70]).values[0], [3, 0, 0, 1]),
        (case("graphs", name="sd35", lengths=[9, 31, 64, 70]).values[0], [3, 0, 0, 3]),
        (case("graphs", name="flux", lengths=[9, 31, 64, 70]).values[0], [2, 0, 0, 2]),
        (case("graphs", name="qwen", lengths=[9, 31, 64, 70]).values[0], [1, 0, 0, 1]),
    ],
    ids=lambda given: given["name"] if isinstance(given, dict) else "",
)
def test_a_graph_of_each_kind_serves_all_blocks_and_prompts_up_to_the_next_size(
    measure: Measure, case: dict[str, Any], expected: list[int]
) -> None:
    found = measure(case)
    assert found["graphs"] == expected
    assert len(lines(found, COMPILING)) == sum(expected)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (
            case("graphs", name=name, lengths=[[9, 10, 11], [9, 9, 11], [12, 12, 12], [9, 12, 12]]).values[0],
            expected,
        )
        for name, expected in (("ernie", [1, 0, 0, 0]), ("flux", [2, 0, 2, 0]))
    ],
    ids=lambda given: given["name"] if isinstance(given, dict) else "",
)
def test_rows_of_a_batch_that_differ_need_no_graphs_of_other_sizes(
    measure: Measure, case: dict[str, Any], expected: list[int]
) -> None:
    assert measure(case)["graphs"] == expected


@pytest.mark.parametrize(
    "case", [case("rows", name=name, lengths=[9, 31, 9]) for name in ("zimage", "sd35", "flux")]
)
def test_a_row_of_a_batch_is_the_image_made_alone(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    assert found["from_alone"] <= EXACT
    assert found["from_plain"] <= EXACT


@pytest.mark.parametrize("case", [case("lora", name=name, form="fp32") for name in ("sd35", "flux")])
def test_loras_come_and_go(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    assert found["from_plain"] <= EXACT < found["effect"] / 5
    assert found["again"] == 0
    assert not lines(found, OFF)


@pytest.mark.parametrize(
    "case",
    [
        case("with_another", name=name, what=what)
        for name, whats in {
            "flux": ("replaced", "left out", "override", "control"),
            "flux2": ("reference at time 0",),
            "zimage": ("double_block", "reference"),
            "sd35": ("left out", "override", "control"),
            "qwen": ("replaced", "mask", "image at time 0"),
        }.items()
        for what in whats
    ],
)
def test_what_other_nodes_do_between_blocks_and_to_attention_is_kept(
    measure: Measure, case: dict[str, Any]
) -> None:
    found = measure(case)
    assert max(found["from_plain"], found["again"]) <= EXACT < found["effect"] / 5
    assert lines(found, COMPILING)
    assert not lines(found, OFF)


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (case("with_another", name=name, what=what).values[0], why)
        for name, what, why in (
            ("flux", "attn1_patch", "another node's attn1_patch works inside of blocks"),
            ("qwen", "attn1_patch", "another node's attn1_patch works inside of blocks"),
            ("sd35", "hook", "another node changed a RMSNorm of the blocks"),
            ("sd35", "eps", "another node changed a RMSNorm of the blocks"),
            ("zimage", "hook", "another node changed a Linear of the blocks"),
        )
    ],
)
def test_what_other_nodes_do_inside_of_blocks_is_comfyuis_way_with_one_line(
    measure: Measure, case: dict[str, Any], why: str
) -> None:
    found = measure(case)
    assert lines(found, OFF) == [OFF + why]
    assert found["from_plain"] == found["again"] == 0 < found["effect"]


@pytest.mark.parametrize("case", [case("object_patched")])
def test_what_another_node_put_in_place_of_a_part_is_kept_while_it_is_there(
    measure: Measure, case: dict[str, Any]
) -> None:
    found = measure(case)
    assert found["from_plain"] == 0
    assert max(found["again"], found["made_later"]) <= EXACT < found["effect"] / 5
    assert len(lines(found, OFF)) == 1
    assert lines(found, COMPILING)


@pytest.mark.parametrize("case", [case("swapped", name="flux")])
def test_blocks_of_another_nodes_class_are_run_by_it(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    assert found["from_plain"] == 0
    assert found["again"] <= EXACT < found["effect"] / 5
    assert lines(found, OFF) == [f"{OFF}another node changed a Louder of the blocks"]


@pytest.mark.parametrize("case", [case("with_another", name="flux", what="called by place")])
def test_a_block_that_is_called_in_another_way_is_run_by_comfyui(
    measure: Measure, case: dict[str, Any]
) -> None:
    found = measure(case)
    assert max(found["from_plain"], found["again"]) <= EXACT < found["effect"] / 5
    assert lines(found, OFF) == [f"{OFF}another node calls blocks in a way of its own"]


@pytest.mark.parametrize("case", [case("recompiled", name="flux")])
def test_graphs_that_pytorch_compiles_again_do_not_end_it(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    assert found["from_plain"] <= EXACT
    assert not lines(found, OFF)


@pytest.mark.parametrize("case", [case("held", name="sd35")])
def test_no_weights_are_held_after_sampling(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    assert found["parts"] > found["held"] == 0


@pytest.mark.parametrize("case", [case("streamed", name=name) for name in ("zimage", "flux")])
def test_blocks_that_are_not_on_the_card_go_comfyuis_way(measure: Measure, case: dict[str, Any]) -> None:
    found = measure(case)
    assert found["from_plain"] <= EXACT
    assert lines(found, COMPILING)
    assert lines(found, OFF) == [f"{OFF}blocks whose weights come to the card one layer at a time"]


@pytest.mark.parametrize("case", [case("fetched")])
def test_a_block_s_weights_are_fetched_for_it_where_others_are_left_out(
    measure: Measure, case: dict[str, Any]
) -> None:
    found = measure(case)
    assert found["there"] == 6 * [True]  # 3 of 4 blocks, in 2 steps
    assert found["left"] == 2 * [None]


@pytest.mark.parametrize(
    "case",
    [
        case("rope", function=function, dtype=dtype)
        for function in ("rms_rope", "rms_rope1", "apply_rope", "apply_rope1")
        for dtype in ("float32", "bfloat16")
    ],
)
def test_rope_is_that_of_comfy_kitchen(measure: Measure, case: dict[str, Any]) -> None:
    assert measure(case)["difference"] <= (1e-6 if case["dtype"] == "float32" else 1e-3)
