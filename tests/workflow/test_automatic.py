from __future__ import annotations

from collections.abc import Callable
from typing import Any

from promptmill.driver.workflow import Graph, model_inputs

Edit = Callable[..., Graph]


def roles(graph: Graph) -> dict[str, str]:
    return {role: " ".join(map(str, targets)) for role, targets in graph.automatic().items()}


def test_the_plain_case(graph: Graph) -> None:
    assert roles(graph) == {
        "prompt": "#2.text", "negative": "#3.text", "seed": "#5.seed", "steps": "#5.steps", "cfg": "#5.cfg",
        "width": "#4.width", "height": "#4.height", "batch_size": "#4.batch_size", "denoise": "#5.denoise",
    }  # fmt: skip


def test_a_zeroed_negative_is_no_negative(edited: Edit) -> None:
    for encoder in ("2", "3"):
        zeroed = {"8": ("ConditioningZeroOut", {"conditioning": [encoder, 0]})}
        found = roles(edited(zeroed, **{"5.negative": ["8", 0]}))
        assert found["prompt"] == "#2.text"
        assert "negative" not in found


def test_one_encoder_for_both_sides_is_the_prompt(edited: Edit) -> None:
    found = roles(edited(**{"5.negative": ["2", 0]}))
    assert found["prompt"] == "#2.text"
    assert "negative" not in found


def test_conditioning_passes_through_to_the_right_side(edited: Edit) -> None:
    nodes = {
        "8": ("ControlNetApplyAdvanced", {"positive": ["9", 0], "negative": ["3", 0], "strength": 1.0}),
        "9": ("ConditioningCombine", {"conditioning_1": ["2", 0], "conditioning_2": ["10", 0]}),
        "10": ("CLIPTextEncodeFlux", {"clip": ["1", 1], "clip_l": "a", "t5xxl": "b", "guidance": 3.5}),
    }
    found = roles(edited(nodes, **{"5.positive": ["8", 0], "5.negative": ["8", 1]}))
    assert found["prompt"] == "#2.text #10.clip_l #10.t5xxl"
    assert found["negative"] == "#3.text"


def test_the_users_words_are_found_behind_a_system_prompt(edited: Edit) -> None:
    nodes = {
        "8": ("StringConcatenate", {"string_a": ["9", 0], "string_b": ["10", 0], "delimiter": ""}),
        "9": ("PrimitiveStringMultiline", {"value": "You are an assistant that draws."}),
        "10": ("PrimitiveStringMultiline", {"value": "a red boat"}),
    }
    assert roles(edited(nodes, **{"2.text": ["8", 0]}))["prompt"] == "#10.value"
    swapped = {
        **nodes,
        "8": ("StringConcatenate", {"string_a": ["10", 0], "string_b": ["9", 0], "delimiter": ""}),
    }
    assert roles(edited(swapped, **{"2.text": ["8", 0]}))["prompt"] == "#10.value"


def test_a_switch_is_followed_the_way_it_is_set(edited: Edit) -> None:
    nodes = {
        "8": ("ComfySwitchNode", {"switch": ["11", 0], "on_false": ["9", 0], "on_true": ["10", 0]}),
        "9": ("PrimitiveInt", {"value": 20}),
        "10": ("PrimitiveInt", {"value": 4}),
    }
    for on, expected in ((True, "#10.value"), (False, "#9.value")):
        graph = edited({**nodes, "11": ("PrimitiveBoolean", {"value": on})}, **{"5.steps": ["8", 0]})
        assert roles(graph)["steps"] == expected


def test_a_size_from_a_selector_is_the_input_whose_link_is_replaced(edited: Edit) -> None:
    nodes = {"8": ("ResolutionSelector", {"megapixels": 1.0, "multiple": 8})}
    graph = edited(nodes, **{"4.width": ["8", 0], "4.height": ["8", 1]})
    assert roles(graph)["width"] == "#4.width"
    assert graph.expected_size({}) is None
    assert graph.expected_size(
        dict(zip(graph.automatic()["width"] + graph.automatic()["height"], (640, 320), strict=True))
    ) == (640, 320)


def test_a_size_from_an_input_image_is_not_the_tables(edited: Edit) -> None:
    nodes = {"8": ("LoadImage", {"image": "cat.png"}), "9": ("GetImageSize", {"image": ["8", 0]})}
    found = roles(edited(nodes, **{"4.width": ["9", 0], "4.height": ["9", 1]}))
    assert "width" not in found
    assert "height" not in found


def test_a_chain_shares_prompt_and_seed_but_has_one_size(edited: Edit) -> None:
    upscaled = {"samples": ["5", 0], "width": 2048, "height": 2048}
    second = {"noise_seed": 0, "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["8", 0]}
    graph = edited(
        {"8": ("LatentUpscale", upscaled), "9": ("SomeSampler", second)}, **{"6.samples": ["9", 0]}
    )
    found = roles(graph)
    assert found["seed"] == "#5.seed #9.noise_seed"
    assert found["prompt"] == "#2.text"
    assert found["width"] == "#4.width"
    assert graph.expected_size({}) is None


def test_guider_noise_and_scheduler(edited: Edit) -> None:
    nodes: dict[str, Any] = {
        "5": ("SamplerCustomAdvanced", {"noise": ["8", 0], "guider": ["9", 0], "sigmas": ["10", 0], "latent_image": ["4", 0]}),
        "8": ("RandomNoise", {"noise_seed": 1}),
        "9": ("BasicGuider", {"model": ["1", 0], "conditioning": ["2", 0]}),
        "10": ("Flux2Scheduler", {"steps": 8, "width": 1024, "height": 1024}),
    }  # fmt: skip
    found = roles(edited(nodes))
    assert (found["prompt"], found["seed"], found["steps"]) == ("#2.text", "#8.noise_seed", "#10.steps")
    assert found["width"] == "#4.width #10.width"
    assert not {"negative", "cfg"} & found.keys()


def test_a_sampler_that_saves_nothing_is_left_alone(edited: Edit) -> None:
    idle = {"noise_seed": 0, "positive": ["3", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    assert roles(edited({"8": ("SomeSampler", idle)}))["seed"] == "#5.seed"


def test_inputs_that_choose_models(edited: Edit) -> None:
    graph = edited({"8": ("UNETLoader", {"unet_name": "a.safetensors"})})
    assert sorted(map(str, model_inputs(graph))) == ["#1.ckpt_name", "#8.unet_name"]
