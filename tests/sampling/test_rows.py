"""Given rows with prompts and seeds of their own, expect each image of the batch to be the one made alone by ComfyUI."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(900)]

Measure = Callable[[dict[str, Any]], dict[str, Any]]

TOLERANCE = 1e-5
STEPS = 4

AS_IS = [
    "euler", "euler_cfg_pp", "heun", "heunpp2", "exp_heun_2_x0", "dpm_2", "lms", "dpm_fast", "dpmpp_2m", "dpmpp_2m_cfg_pp",
    "ipndm", "ipndm_v", "deis", "res_multistep", "res_multistep_cfg_pp", "gradient_estimation", "gradient_estimation_cfg_pp",
    "ddim", "uni_pc", "uni_pc_bh2",
]  # fmt: skip
NOISE = [
    "euler_ancestral", "euler_ancestral_cfg_pp", "exp_heun_2_x0_sde", "dpm_2_ancestral", "dpmpp_2s_ancestral",
    "dpmpp_2s_ancestral_cfg_pp", "ddpm", "lcm", "res_multistep_ancestral", "res_multistep_ancestral_cfg_pp", "er_sde",
    "seeds_2", "seeds_3", "sa_solver", "sa_solver_pece",
]  # fmt: skip
BROWNIAN = [
    "dpmpp_sde", "dpmpp_sde_gpu", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu",
    "dpmpp_3m_sde", "dpmpp_3m_sde_gpu",
]  # fmt: skip
REFUSED = ["dpm_adaptive"]
SOME = ["euler", "euler_ancestral", "dpmpp_2m_sde", "uni_pc"]
EQUAL, MIXED = [9, 9, 9], [9, 31, 9]
GUIDANCE = [1.0, 3.0]


def case(
    model: str, sampler: str = "euler", cfg: float = 3.0, lengths: list[int] = MIXED, **more: Any
) -> Any:
    told = [
        model,
        sampler,
        f"cfg{cfg:g}",
        "equal" if lengths == EQUAL else "mixed" if lengths == MIXED else lengths,
    ]
    told += [f"{key}={value}" for key, value in more.items()]
    about = {"model": model, "sampler": sampler, "cfg": cfg, "lengths": lengths, **more}
    return pytest.param(about, id="-".join(map(str, told)))


MATRIX = [
    *(case("ernie", *point) for point in product([*AS_IS, *NOISE, *BROWNIAN], GUIDANCE, [EQUAL, MIXED])),
    *(
        case(model, *point)
        for model in ("sd35", "zimage", "lumina2", "flux")
        for point in product(SOME, GUIDANCE, [EQUAL, MIXED])
    ),
    # epsilon prediction: another branch of ancestral samplers
    *(case("sd15", sampler) for sampler in [*SOME, "dpm_2_ancestral", "dpmpp_2s_ancestral", "ddpm", "lcm"]),
]


@pytest.mark.parametrize("case", MATRIX)
def test_a_row_is_the_image_made_alone(measure: Measure, case: dict[str, Any]) -> None:
    assert measure(case)["difference"] <= TOLERANCE


IMAGES = {"images": [1, 1, 1], "start": 2}


@pytest.mark.parametrize(
    "case",
    [
        case("ernie", **IMAGES),
        case("ernie", masks=3, **IMAGES),
        case("sd35", "euler_ancestral", masks=3, **IMAGES),
        case("sd35", "ddim", masks=1, **IMAGES),
        case("sd15", "ddim", masks=3, **IMAGES),
        case("sd15-inpaint", masks=3, **IMAGES),
        case("ernie", "euler_ancestral", silent=True, **IMAGES),
        case("ernie", batch_index=[0, 2, 1]),
    ],
)
def test_image_to_image_and_noise_masks_are_exact(measure: Measure, case: dict[str, Any]) -> None:
    assert measure(case)["difference"] <= TOLERANCE


FORWARDS = [
    (case("ernie", cfg=1.0), 1),
    (case("ernie", negatives=[3, 5, 7]), 1),
    (case("ernie", patch="ScaleROPE"), 1),
    (case("ernie", patch="LoRA"), 1),
    (case("ernie", patch="compiled"), 4),
    (case("sd35", cfg=1.0), 2),
    (case("sd35", cfg=1.0, lengths=EQUAL), 1),
    (case("sd35", negatives=[9, 31, 9]), 2),
    (case("lumina2", cfg=1.0), 2),
    (case("lumina2", cfg=1.0, lengths=EQUAL, extra={"0": "5 tokens", "1": "7 tokens", "2": "7 tokens"}), 2),
    *((case("sd35", patch=name, lengths=EQUAL), 2) for name in ("RescaleCFG", "CFGNorm", "CFGNormPre")),
    *((case("sd35", patch=name, lengths=EQUAL), 2) for name in ("CFGZeroStar", "EpsilonScaling")),
    (case("sd35", patch="DifferentialDiffusion", lengths=EQUAL, images=[1, 1, 1], masks=3), 2),
]


@pytest.mark.parametrize(
    ("case", "each_step"), [pytest.param(*given.values, steps, id=given.id) for given, steps in FORWARDS]
)
def test_rows_that_can_share_a_forward_do(measure: Measure, case: dict[str, Any], each_step: int) -> None:
    measured = measure(case)

    assert measured["difference"] <= TOLERANCE
    assert measured["forwards"] == each_step * STEPS
    assert measured["log"] == []


ONE_AT_A_TIME = [
    (case("sd15", extra={"1": "control"}), "1 of 3", "ControlNet"),
    (case("sd35", extra={"1": "area"}), "1 of 3", "an area"),
    (case("sd35", extra={"1": "mask", "2": "mask"}), "2 of 3", "a mask"),
    (case("sd35", extra={"1": "range"}), "1 of 3", "a range of steps"),
    (case("sd35", extra={"entries": 1}), "1 of 3", "a conditioning of 2 entries"),
    (case("flux", extra={"1": "reference"}), "1 of 3", "reference latents"),
    (case("sd35", "euler_ancestral", images=[1, 0, 1], start=2), "1 of 3", "an empty latent"),
    (case("sd35", patch="Mahiro"), "3 of 3", "something on the model set sampler_post_cfg_function"),
    (case("ernie", patch="EasyCache"), "3 of 3", "something on the model wraps outer_sample"),
    (case("ernie", "foreign"), "3 of 3", "nothing is known of the sampler __main__.sample_euler"),
    (
        case("ernie", "lcm", options={"noise_clip_std": 1.0}),
        "3 of 3",
        "the sampler's noise_clip_std clips noise by the deviation of the whole batch",
    ),
    (
        case("ernie", "euler", options={"s_churn": 1.0}),
        "3 of 3",
        "the sampler's s_churn draws from the global generator",
    ),
]


@pytest.mark.parametrize(
    ("case", "rows", "why"),
    [pytest.param(*given.values, *told, id=given.id) for given, *told in ONE_AT_A_TIME],
)
def test_what_decides_over_the_batch_gets_one_row_at_a_time(
    measure: Measure, case: dict[str, Any], rows: str, why: str
) -> None:
    measured = measure(case)

    assert measured["difference"] <= TOLERANCE
    assert measured["log"] == [f"promptmill: {rows} rows are sampled one at a time ({why})"]


@pytest.mark.parametrize(
    "case", [case("ernie", sampler, lengths=[9]) for sampler in ("dpm_adaptive", "foreign")]
)
def test_a_single_row_takes_any_sampler(measure: Measure, case: dict[str, Any]) -> None:
    measured = measure(case)

    assert measured["difference"] == 0
    assert measured["log"] == []


@pytest.mark.parametrize(
    "case",
    [{"attention": f"attention_{name}"} for name in ("basic", "sub_quad", "split", "pytorch", "quantized")],
    ids=str,
)
def test_padding_is_left_out_of_each_attention(measure: Measure, case: dict[str, Any]) -> None:
    measured = measure(case)

    assert measured["difference"] <= TOLERANCE
    assert measured["forwards"] == STEPS


@pytest.mark.parametrize(
    "case", [case("ernie", dtype="bfloat16"), case("sd35", dtype="bfloat16", lengths=EQUAL)]
)
def test_in_bfloat16_rows_are_alike_to_its_rounding(measure: Measure, case: dict[str, Any]) -> None:
    assert measure(case)["difference"] <= 0.05


@pytest.mark.parametrize(
    ("case", "steps"),
    [
        pytest.param(
            {"progress": {"model": "ernie", "sampler": "euler", "cfg": 3.0, "lengths": MIXED}}, 4, id="batch"
        ),
        pytest.param(
            {
                "progress": {
                    "model": "ernie",
                    "sampler": "euler",
                    "cfg": 3.0,
                    "lengths": MIXED,
                    "extra": {"1": "area"},
                }
            },
            8,
            id="one at a time",
        ),
    ],
)
def test_progress_is_told_of_the_whole_batch(measure: Measure, case: dict[str, Any], steps: int) -> None:
    measured = measure(case)

    assert measured["calls"] == [[step, steps, 3] for step in range(steps)]
    assert measured["difference"] <= TOLERANCE


@pytest.mark.parametrize("case", [{"names": True}], ids=str)
def test_every_sampler_of_this_comfyui_was_surveyed(measure: Measure, case: dict[str, Any]) -> None:
    assert measure(case)["ways"] == {
        **dict.fromkeys(AS_IS, "as it is"),
        **dict.fromkeys(NOISE, "per-row noise"),
        **dict.fromkeys(BROWNIAN, "per-row Brownian trees"),
        **dict.fromkeys(REFUSED, "refused"),
    }


@pytest.mark.parametrize(
    ("case", "message", "value", "hint"),
    [
        ({"refused": "no rows"}, "there are no rows", None, "give one seed a row"),
        (
            {"refused": "noise count"},
            "the latent should have one entry for each of 2 rows",
            "3",
            "batch_size 2 in the empty latent",
        ),
        (
            {"refused": "batch_index count"},
            "the latent's batch_index should have one entry for each of 3 rows",
            "1",
            "batch_size 3 in the empty latent",
        ),
        (
            {"refused": "guider counts"},
            "every row needs a positive, a negative and a seed",
            "'3 positives, 1 negatives, 3 seeds'",
            "connect the same rows to each input",
        ),
        (
            {"refused": "latent count"},
            "the noise should have one entry for each of 3 rows",
            "2",
            "batch_size 3 in the empty latent, and Row Noise of the same rows",
        ),
        (
            {"refused": "mask count"},
            "the noise mask should have one entry, or one for each row",
            "2",
            "1 or 3 masks",
        ),
        (
            {"refused": "other noise"},
            "the noise is not that of the guider's rows",
            "12345",
            "connect Row Noise of the same rows",
        ),
        (
            {"refused": "dpm_adaptive"},
            "dpm_adaptive takes its step size from the whole batch, so rows cannot share one",
            None,
            "another sampler, such as euler or dpmpp_2m; or one row per batch",
        ),
        (
            {"refused": "foreign row_sampler"},
            "nothing is known of the sampler __main__.sample_euler, so rows cannot share a batch",
            None,
            "one row per batch",
        ),
    ],
    ids=lambda value: value["refused"] if isinstance(value, dict) else "",
)
def test_mistakes_are_refused(
    measure: Measure, case: dict[str, Any], message: str, value: str | None, hint: str
) -> None:
    error = measure(case)["error"]

    assert (error["error"], error["message"], error["value"], error["hint"]) == (
        "sampling",
        message,
        value,
        hint,
    )
