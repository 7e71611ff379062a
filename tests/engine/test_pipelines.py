"""Given a diffusers folder, when the nodes' interface uses it, then the pipeline does what KSampler asks."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from promptmill.driver import Request, run
from promptmill.driver.engine import Engine
from promptmill.driver.engine.models.checkpoint import Checkpoint, Settings
from promptmill.driver.engine.models.pipelines import load_pipeline
from promptmill.driver.ledger import JobState
from promptmill.errors import CheckpointError, PromptmillError

DEMO = Path(__file__).resolve().parents[2] / "workflows" / "demo.json"
FAMILIES = ("sd3", "ernie", "zimage")
SHORT, LONG, NEGATIVE = "a red mug", "two blue chair on the wooden table with soft light", "blurry old photo"
# What each pipeline spaces its steps like by itself, and its guidance_scale for KSampler's cfg 1 and 3.
OWN = {
    "sd3": ("normal", {1: 1.0, 3: 3.0}),
    "ernie": ("simple", {1: 1.0, 3: 3.0}),
    "zimage": ("simple", {1: 0.0, 3: 2.0}),
}
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def by_path(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny = by_path("tiny_pipelines")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors are slower on many threads, and much slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tiny.build(tmp_path_factory.mktemp("pipelines"))


@pytest.fixture(scope="module")
def load(folders: dict[str, Path]) -> Callable[..., Checkpoint]:
    """One load for each family and precision; the tests leave the checkpoints as they are."""
    loaded: dict[tuple[str, str], Checkpoint] = {}

    def once(family: str, precision: str = "fp32") -> Checkpoint:
        if (family, precision) not in loaded:
            loaded[family, precision] = load_pipeline(folders[family], device="cpu", precision=precision)
        return loaded[family, precision]

    return once


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A folder that the test may break."""
    return lambda family: shutil.copytree(folders[family], tmp_path / family)


def settings(**changes: Any) -> Settings:
    return Settings(
        **{"seed": 7, "steps": 4, "cfg": 3.0, "sampler": "euler", "scheduler": "simple", **changes}
    )


def empty(checkpoint: Checkpoint, rows: int = 1, height: int = 8, width: int = 6) -> torch.Tensor:
    return torch.zeros(rows, checkpoint.model.latent_channels, height, width)


def sample(
    checkpoint: Checkpoint, prompt: str = LONG, rows: int = 1, latent: Any = None, **changes: Any
) -> torch.Tensor:
    positive, negative = checkpoint.clip.encode(prompt), checkpoint.clip.encode(NEGATIVE)
    start = empty(checkpoint, rows) if latent is None else latent
    return checkpoint.model.sample(start, positive, negative, settings(**changes), lambda *_: None)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((one - other).abs().max() / other.abs().max())


def own_pipeline(folder: Path) -> Any:
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def forwards(checkpoint: Checkpoint, run: Callable[[], object]) -> list[int]:
    """The batch size of each forward of the transformer."""
    sizes: list[int] = []
    pipe: Any = checkpoint.clip.encode(SHORT).pipe  # type: ignore[attr-defined]
    handle = pipe.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: sizes.append(len(args[0] if args else kwargs["hidden_states"])),
        with_kwargs=True,
    )
    run()
    handle.remove()
    return sizes


# Sampling


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cfg", [1, 3])
def test_two_prompts_and_their_pictures_are_those_of_the_pipeline_called_by_hand(
    family, cfg, load, folders
) -> None:
    checkpoint, (scheduler, guidance) = load(family), OWN[family]
    encode = checkpoint.clip.encode

    latents = checkpoint.model.sample_rows(
        empty(checkpoint, 2),
        [encode(SHORT), encode(LONG)],
        [encode(NEGATIVE), encode("")],
        [5, 11],
        settings(cfg=float(cfg), scheduler=scheduler),
        lambda *_: None,
    )

    expected = own_pipeline(folders[family])(
        prompt=[SHORT, LONG],
        negative_prompt=[NEGATIVE, ""],
        generator=[torch.Generator().manual_seed(seed) for seed in (5, 11)],
        guidance_scale=guidance[cfg],
        num_inference_steps=4,
        height=64,
        width=48,
        output_type="pt",
        **({"use_pe": False} if family == "ernie" else {}),
    ).images
    pixels = checkpoint.vae.decode(latents).clamp(0, 1)
    assert pixels.shape == (2, 64, 48, 3)
    assert pixels.dtype == torch.float32
    assert pixels.std() > 0.05
    assert distance(pixels.movedim(-1, 1), expected) < 2e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_each_row_of_a_batch_equals_the_row_made_alone(family, cfg, load) -> None:
    checkpoint = load(family)
    prompts = [checkpoint.clip.encode(text) for text in (SHORT, LONG, "the chair in front of the table")]
    negatives = [checkpoint.clip.encode(text) for text in (NEGATIVE, "", NEGATIVE)]
    seeds = [3, 2**64 - 1, 12345]

    def rows(some: list[int]) -> torch.Tensor:
        return checkpoint.model.sample_rows(
            empty(checkpoint, len(some)),
            [prompts[i] for i in some],
            [negatives[i] for i in some],
            [seeds[i] for i in some],
            settings(cfg=cfg),
            lambda *_: None,
        )

    together = rows([0, 1, 2])
    alone = [rows([i])[0] for i in range(3)]
    for row, single in zip(together, alone, strict=True):
        assert distance(row, single) < 1e-5
    assert distance(alone[0], alone[1]) > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_row_i_of_one_prompt_has_seed_plus_i(family, load) -> None:
    checkpoint = load(family)
    prompts, negatives = [checkpoint.clip.encode(LONG)] * 2, [checkpoint.clip.encode(NEGATIVE)] * 2
    by_seed = checkpoint.model.sample_rows(
        empty(checkpoint, 2), prompts, negatives, [2**64 - 1, 0], settings(), lambda *_: None
    )
    assert torch.equal(sample(checkpoint, rows=2, seed=2**64 - 1), by_seed)


@pytest.mark.parametrize("family", FAMILIES)
def test_cfg_1_is_one_forward_a_step_and_does_not_read_the_negative(family, load) -> None:
    checkpoint = load(family)
    assert forwards(checkpoint, lambda: sample(checkpoint, rows=2, cfg=1.0)) == [2] * 4
    assert forwards(checkpoint, lambda: sample(checkpoint, rows=2, cfg=2.0)) == [4] * 4

    encode = checkpoint.clip.encode
    with_other_negative = checkpoint.model.sample(
        empty(checkpoint), encode(LONG), encode("bright"), settings(cfg=1.0), lambda *_: None
    )
    assert torch.equal(with_other_negative, sample(checkpoint, cfg=1.0))


@pytest.mark.parametrize("family", FAMILIES)
def test_guidance_is_linear_in_cfg_as_comfyui_defines_it(family, load) -> None:
    """In one step the result is negative + cfg (positive - negative), so cfg 1, 2 and 3 lie on one line."""
    one, two, three = (sample(load(family), steps=1, cfg=cfg) for cfg in (1.0, 2.0, 3.0))
    assert distance(three - two, two - one) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_are_reported_with_the_picture_the_model_expects(family, load) -> None:
    checkpoint = load(family)
    steps: list[tuple[int, int, Callable[[], torch.Tensor]]] = []
    encode = checkpoint.clip.encode
    result = checkpoint.model.sample(
        empty(checkpoint), encode(SHORT), encode(NEGATIVE), settings(), lambda *step: steps.append(step)
    )
    assert [step[:2] for step in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    first, *_, last = (paint() for _, _, paint in steps)
    assert distance(last, checkpoint.vae.decode(result)) < 1e-5
    # One step ends where the first of four expects to end.
    assert distance(first, checkpoint.vae.decode(sample(checkpoint, SHORT, steps=1))) < 1e-5
    assert distance(first, last) > 1e-2


def test_the_preview_of_a_large_picture_is_small(load) -> None:
    checkpoint, shapes = load("ernie"), []
    prompt = checkpoint.clip.encode(SHORT)
    checkpoint.model.sample(
        empty(checkpoint, 2, 96, 64),
        prompt,
        prompt,
        settings(steps=1, cfg=1.0),
        lambda *step: shapes.append(step[2]().shape),
    )
    assert shapes == [(2, 256, 168, 3)]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_error_in_a_step_ends_the_sampling_and_the_next_one_works(family, load) -> None:
    checkpoint = load(family)
    seen: list[int] = []

    def interrupt(step: int, *_: object) -> None:
        seen.append(step)
        if step == 2:
            raise InterruptedError

    prompt = checkpoint.clip.encode(LONG)
    before = sample(checkpoint)
    with pytest.raises(InterruptedError):
        checkpoint.model.sample(empty(checkpoint), prompt, prompt, settings(), interrupt)
    assert seen == [1, 2]
    assert torch.equal(sample(checkpoint), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shift_holds_for_its_own_model_only(family, load, copied) -> None:
    """A shifted model equals a folder whose scheduler has that shift, and leaves the first model as it was."""
    checkpoint, folder = load(family), copied(family)
    before = sample(checkpoint)
    shifted = Checkpoint(checkpoint.model.with_shift(6.0), checkpoint.clip, checkpoint.vae)
    result = sample(shifted)

    edit(folder / "scheduler/scheduler_config.json", shift=6.0)
    configured = sample(load_pipeline(folder, device="cpu", precision="fp32"))
    assert distance(result, configured) < 1e-6
    assert distance(result, before) > 1e-3
    assert torch.equal(sample(checkpoint), before)


@pytest.mark.parametrize("family", ["sd3", "zimage"])
def test_a_shift_by_size_is_kept(family, load, copied) -> None:
    folder = copied(family)
    edit(folder / "scheduler/scheduler_config.json", use_dynamic_shifting=True)
    checkpoint = load_pipeline(folder, device="cpu", precision="fp32")
    _, guidance = OWN[family]
    result = checkpoint.vae.decode(sample(checkpoint, scheduler="simple")).clamp(0, 1)
    expected = own_pipeline(folder)(
        prompt=LONG,
        negative_prompt=NEGATIVE,
        generator=torch.Generator().manual_seed(7),
        guidance_scale=guidance[3],
        num_inference_steps=4,
        sigmas=[1.0, 0.75, 0.5, 0.25],
        height=64,
        width=48,
        output_type="pt",
    ).images
    assert distance(result.movedim(-1, 1), expected) < 1e-4
    with pytest.raises(CheckpointError, match="ModelSamplingSD3"):
        sample(checkpoint, denoise=0.5)
    shifted = Checkpoint(checkpoint.model.with_shift(3.0), checkpoint.clip, checkpoint.vae)
    assert distance(sample(shifted, denoise=0.5), sample(load(family), denoise=0.5)) < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scheduler", ["simple", "normal", "sgm_uniform", "beta"])
def test_the_transformer_sees_comfyuis_sigmas(family, scheduler, load) -> None:
    """Shift 3, 4 steps at denoise 0.5: the last four of eight, as ComfyUI 0.33 gives them."""
    measured = {
        "simple": [0.75, 0.642857, 0.5, 0.3],
        "normal": [0.693793, 0.548046, 0.337972, 0.008929],
        "sgm_uniform": [0.751121, 0.644686, 0.502985, 0.305009],
        "beta": [0.750749, 0.596386, 0.392171, 0.155914],
    }[scheduler]
    checkpoint = load(family)
    pipe = checkpoint.clip.encode(SHORT).pipe
    seen: list[float] = []

    def note(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        time = float((args[1] if args else kwargs["timestep"])[0])
        seen.append(1 - time if family == "zimage" else time / 1000)

    handle = pipe.transformer.register_forward_pre_hook(note, with_kwargs=True)
    sample(checkpoint, scheduler=scheduler, denoise=0.5)
    handle.remove()
    assert seen == pytest.approx(measured, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_little_denoise_stays_near_the_picture_and_full_denoise_forgets_it(family, load) -> None:
    checkpoint = load(family)
    pixels = torch.rand(1, 64, 48, 3, generator=torch.Generator().manual_seed(1))
    latent = checkpoint.vae.encode(pixels)
    assert latent.shape == (1, checkpoint.model.latent_channels, 8, 6)
    near = sample(checkpoint, latent=latent, cfg=1.0, steps=2, denoise=0.01)
    far = sample(checkpoint, latent=latent, cfg=1.0, steps=2, denoise=0.9)
    full = sample(checkpoint, latent=latent, cfg=1.0, steps=2)
    assert (near - latent).abs().mean() < 0.15 * (far - latent).abs().mean()
    assert torch.equal(full, sample(checkpoint, cfg=1.0, steps=2))


# Prompts


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_that_comes_again_is_not_encoded_again(family, folders) -> None:
    checkpoint = load_pipeline(folders[family], device="cpu", precision="fp32")
    pipe = checkpoint.clip.encode(NEGATIVE).pipe
    runs: list[int] = []
    pipe.text_encoder.register_forward_pre_hook(lambda *_: runs.append(1))
    for text in (SHORT, NEGATIVE, LONG, NEGATIVE, SHORT):
        sample(checkpoint, text)
    assert len(runs) == 2
    for i in range(70):
        checkpoint.clip.encode(f"{i}")
    checkpoint.clip.encode(SHORT)
    assert len(runs) == 2 + 70 + 1


@pytest.mark.parametrize("family", FAMILIES)
def test_the_callers_lists_stay_as_they_are(family, load) -> None:
    checkpoint = load(family)
    texts = [SHORT, LONG]
    rows = [checkpoint.clip.encode(text) for text in texts]
    negatives, seeds = [rows[1].zeroed(), rows[0]], [1, 2]
    kept = [(row, row.tokens.clone()) for row in (*rows, *negatives)]
    given = (list(rows), list(negatives), list(seeds))
    checkpoint.model.sample_rows(empty(checkpoint, 2), rows, negatives, seeds, settings(), lambda *_: None)
    assert (rows, negatives, seeds) == given
    assert all(torch.equal(row.tokens, tokens) for row, tokens in kept)
    assert texts == [SHORT, LONG]


@pytest.mark.parametrize("family", FAMILIES)
def test_zeroed_says_nothing_in_the_same_shape(family, load) -> None:
    encoded = load(family).clip.encode(LONG)
    zeroed = encoded.zeroed()
    assert encoded.tokens.abs().max() > 0
    assert zeroed.tokens.shape == encoded.tokens.shape
    assert zeroed.tokens.abs().max() == 0
    assert (encoded.pooled is None) == (zeroed.pooled is None)
    assert zeroed.pooled is None or zeroed.pooled.abs().max() == 0


@pytest.mark.parametrize(("family", "tokens"), [("sd3", 256), ("ernie", 128), ("zimage", 512)])
def test_a_prompt_that_the_pipeline_would_cut_is_refused(family, tokens, load) -> None:
    encode = load(family).clip.encode
    around = 2 if family != "zimage" else 3  # start and end; and the template's "user"
    encode(" ".join(["mug"] * (tokens - around)))
    with pytest.raises(CheckpointError, match=f"{tokens + 1} tokens, and this model reads {tokens}"):
        encode(" ".join(["mug"] * (tokens - around + 1)))


def test_sd3_without_t5_reads_77_tokens(copied) -> None:
    folder = copied("sd3")
    edit(folder / "model_index.json", text_encoder_3=[None, None], tokenizer_3=[None, None])
    shutil.rmtree(folder / "text_encoder_3")
    checkpoint = load_pipeline(folder, device="cpu", precision="fp32")
    assert sample(checkpoint).isfinite().all()
    with pytest.raises(CheckpointError, match="78 tokens, and this model reads 77"):
        checkpoint.clip.encode(" ".join(["mug"] * 76))


# Refusals


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"sampler": "dpmpp_2m"}, "set sampler_name to euler"),
        ({"sampler": "euler_ancestral"}, "set sampler_name to euler"),
        ({"scheduler": "karras"}, "simple, sgm_uniform, normal, beta"),
        ({"cfg": 0.5}, "set cfg to 1"),
    ],
)
def test_a_setting_that_cannot_be_followed_is_refused_with_what_works(changes, hint, load) -> None:
    with pytest.raises(CheckpointError) as caught:
        sample(load("sd3"), **changes)
    assert hint in caught.value.hint
    assert caught.value.value in changes.values()


@pytest.mark.parametrize("family", FAMILIES)
def test_sides_that_are_no_multiple_of_16_are_refused(family, load) -> None:
    checkpoint = load(family)
    with pytest.raises(CheckpointError, match="multiples of 16") as caught:
        sample(checkpoint, latent=empty(checkpoint, height=7))
    assert caught.value.value == "48x56"


@pytest.mark.parametrize(("family", "side"), [("sd3", 16), ("zimage", 16)])
def test_a_picture_larger_than_the_models_positions_is_refused(family, side, load) -> None:
    checkpoint = load(family)
    assert sample(checkpoint, steps=1, latent=empty(checkpoint, height=side, width=2)).isfinite().all()
    with pytest.raises(CheckpointError, match="at most 128x128"):
        sample(checkpoint, latent=empty(checkpoint, height=2, width=side + 2))


def test_parts_of_two_checkpoints_do_not_mix(load) -> None:
    sd3, ernie, zimage = load("sd3"), load("ernie"), load("zimage")
    prompt = zimage.clip.encode(SHORT)
    with pytest.raises(CheckpointError, match="another checkpoint"):
        sd3.model.sample(empty(sd3), prompt, prompt, settings(), lambda *_: None)
    with pytest.raises(CheckpointError, match="should have 4 channels"):
        sample(ernie, latent=empty(sd3))
    with pytest.raises(CheckpointError, match="should have 16 channels"):
        sd3.vae.decode(empty(ernie))


def test_counts_that_do_not_match_are_refused(load) -> None:
    checkpoint = load("sd3")
    prompt = checkpoint.clip.encode(SHORT)
    with pytest.raises(CheckpointError, match="as many"):
        checkpoint.model.sample_rows(
            empty(checkpoint, 2), [prompt] * 2, [prompt] * 2, [1], settings(), lambda *_: None
        )


# Pictures


@pytest.mark.parametrize("family", FAMILIES)
def test_pixels_are_encoded_as_diffusers_does(family, load) -> None:
    checkpoint = load(family)
    pixels = torch.rand(1, 32, 48, 3, generator=torch.Generator().manual_seed(2))
    pipe = checkpoint.clip.encode(SHORT).pipe
    with torch.no_grad():
        expected = pipe.vae.encode(pipe.image_processor.preprocess(pixels.movedim(-1, 1))).latent_dist.mode()
    assert distance(checkpoint.vae.encode(pixels), expected) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_pixels_are_cut_to_a_multiple_of_8_and_rows_are_coded_alone(family, load) -> None:
    vae = load(family).vae
    pixels = torch.rand(2, 37, 50, 3, generator=torch.Generator().manual_seed(2))
    latent = vae.encode(pixels)
    assert latent.shape[2:] == (4, 6)
    assert torch.equal(latent, vae.encode(pixels[:, :32, :48]))
    assert torch.equal(latent[1:], vae.encode(pixels[1:]))
    assert torch.equal(vae.decode(latent)[1:], vae.decode(latent[1:]))


# Precision


def weights(checkpoint: Checkpoint, part: str = "transformer") -> dict[str, torch.Tensor]:
    pipe: Any = checkpoint.clip.encode(SHORT).pipe  # type: ignore[attr-defined]
    return dict(getattr(pipe, part).named_parameters())


def size(checkpoint: Checkpoint) -> int:
    """Bytes of the transformer's weights, with the scales of those in 8 bits."""
    return sum(
        weight.qdata.nbytes + weight.scale.nbytes if hasattr(weight, "qdata") else weight.nbytes
        for weight in weights(checkpoint).values()
    )


KEPT = {
    "sd3": ("pos_embed", "time_text_embed", "context_embedder", "norm", "proj_out"),
    "ernie": ("x_embedder", "text_proj", "time_embedding", "adaLN", "norm", "final_linear"),
    "zimage": ("x_embedder", "cap_embedder", "t_embedder", "adaLN", "norm", "final_layer", "pad_token"),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["fp8", "int8"])
def test_8_bits_hold_the_blocks_and_leave_the_rest(family, precision, load) -> None:
    def in_8_bits(weight: torch.Tensor) -> bool:
        return weight.dtype == torch.float8_e4m3fn or hasattr(weight, "qdata")

    checkpoint = load(family, precision)
    plain = weights(load(family, "bf16"))
    changed, untouched = set(), set()
    for name, weight in weights(checkpoint).items():
        (changed if in_8_bits(weight) else untouched).add(name)
    assert not [name for name in changed if any(part in name for part in KEPT[family])]
    assert not [
        name
        for name in untouched
        if name.endswith("weight") and not any(part in name for part in KEPT[family])
    ]
    assert all(
        torch.equal(weights(checkpoint)[name], plain[name]) for name in untouched if not name.endswith("bias")
    )
    block_bytes = sum(plain[name].nbytes for name in changed)
    assert size(checkpoint) < size(load(family, "bf16")) - 0.4 * block_bytes
    assert {weight.dtype for weight in weights(checkpoint, "vae").values()} == {torch.bfloat16}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.015), ("fp8", 0.06), ("int8", 0.02)])
def test_lower_precision_draws_nearly_the_same(family, precision, tolerance, load) -> None:
    """
    The mean error against fp32, relative to the mean value, from the same noise.

    Two steps at shift 1, times 1000 and 500: ERNIE-Image's pipeline rounds times to bf16, where 750 is 752.
    """

    def draw(checkpoint: Checkpoint) -> torch.Tensor:
        model = checkpoint.model.with_shift(1.0)
        return sample(Checkpoint(model, checkpoint.clip, checkpoint.vae), cfg=1.0, steps=2)

    exact, rough = draw(load(family)), draw(load(family, precision))
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().mean() / exact.abs().mean() < tolerance


def test_auto_is_fp32_on_the_cpu(folders) -> None:
    checkpoint = load_pipeline(folders["zimage"], device="cpu", precision="auto")
    assert {weight.dtype for weight in weights(checkpoint).values()} == {torch.float32}


def test_an_unknown_precision_is_refused_with_those_there_are(folders) -> None:
    with pytest.raises(CheckpointError, match="fp32, bf16, fp8, int8"):
        load_pipeline(folders["sd3"], device="cpu", precision="fp4")


# Broken folders


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def refused(folder: Path) -> str:
    with pytest.raises(PromptmillError) as caught:
        load_pipeline(folder, device="cpu", precision="fp32")
    return str(caught.value)


def test_another_pipeline_is_refused_with_the_three(copied) -> None:
    folder = copied("sd3")
    edit(folder / "model_index.json", _class_name="FluxPipeline")
    message = refused(folder)
    for name in (
        "FluxPipeline",
        "StableDiffusion3Pipeline",
        "ErnieImagePipeline",
        "ZImagePipeline",
        "model_index.json",
    ):
        assert name in message


@pytest.mark.parametrize(
    "missing",
    [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
        "transformer/config.json",
        WEIGHTS,
        "vae/config.json",
        "text_encoder/model.safetensors",
    ],
)
def test_a_missing_file_is_named(missing, copied) -> None:
    folder = copied("zimage")
    (folder / missing).unlink()
    message = refused(folder)
    assert str(folder / missing) in message
    assert "download the folder again" in message


@pytest.mark.parametrize(
    "path", [WEIGHTS, "text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"]
)
@pytest.mark.parametrize("left", [0, 4, 100, -1])
def test_truncated_weights_are_named(path, left, copied) -> None:
    folder = copied("ernie")
    (folder / path).write_bytes((folder / path).read_bytes()[:left])
    assert str(folder / path) in refused(folder)


@pytest.mark.parametrize("text", ["{", "[]", "\ufeff{}", ""])
@pytest.mark.parametrize(
    "path", ["model_index.json", "transformer/config.json", "scheduler/scheduler_config.json"]
)
def test_a_broken_json_file_is_named(path, text, copied) -> None:
    folder = copied("sd3")
    (folder / path).write_text(text, encoding="utf-8")
    assert str(folder / path) in refused(folder)


def test_all_broken_files_are_named_at_once(copied) -> None:
    folder = copied("sd3")
    (folder / WEIGHTS).unlink()
    (folder / "vae/config.json").write_text("{")
    (folder / "text_encoder_3/model.safetensors").write_bytes(b"")
    message = refused(folder)
    for path in (WEIGHTS, "vae/config.json", "text_encoder_3/model.safetensors"):
        assert str(folder / path) in message


def test_a_missing_shard_is_named(copied) -> None:
    folder = copied("zimage")
    pipe = own_pipeline(folder)
    shutil.rmtree(folder / "transformer")
    pipe.transformer.save_pretrained(folder / "transformer", max_shard_size="100KB")
    shards = sorted((folder / "transformer").glob("*.safetensors"))
    assert len(shards) > 1
    assert sample(load_pipeline(folder, device="cpu", precision="fp32")).isfinite().all()
    shards[1].unlink()
    assert str(shards[1]) in refused(folder)


@pytest.mark.parametrize(
    ("path", "part"), [(WEIGHTS, "transformer"), ("text_encoder/model.safetensors", "text_encoder")]
)
@pytest.mark.parametrize("change", ["drop", "reshape"])
def test_weights_that_do_not_fit_the_config_are_refused(path, part, change, copied) -> None:
    folder = copied("zimage")
    tensors = load_file(folder / path)
    name = next(name for name in tensors if name.startswith("layers.1") and tensors[name].ndim == 2)
    if change == "drop":
        del tensors[name]
    else:
        tensors[name] = tensors[name][:4].clone()
    save_file(tensors, folder / path, metadata={"format": "pt"})
    message = refused(folder)
    assert str(folder / part) in message
    if change == "drop":
        assert name in message


@pytest.mark.parametrize("part", ["transformer", "text_encoder"])
def test_pickled_weights_are_never_opened(part, copied) -> None:
    folder = copied("zimage")
    stem = "diffusion_pytorch_model" if part == "transformer" else "model"
    weights = folder / part / f"{stem}.safetensors"
    weights.unlink()
    pickled = "diffusion_pytorch_model.bin" if part == "transformer" else "pytorch_model.bin"
    (folder / part / pickled).write_bytes(b"not even a pickle")
    message = refused(folder)
    assert str(weights) in message
    assert pickled in message
    assert "pickles never" in message


@pytest.mark.parametrize("part", ["transformer", "text_encoder", "tokenizer"])
def test_code_in_the_folder_is_not_run(part, copied, tmp_path) -> None:
    folder = copied("zimage")
    ran = tmp_path / "ran"
    (folder / part / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Evil: pass\n")
    edit(folder / "model_index.json", **{part: ["evil", "Evil"]})
    config = "tokenizer_config.json" if part == "tokenizer" else "config.json"
    edit(folder / part / config, auto_map={"AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]})
    if part == "transformer":  # its class is the family's, whatever the folder says
        load_pipeline(folder, device="cpu", precision="fp32")
    else:
        assert "never run" in refused(folder)
    assert not ran.exists()


@pytest.mark.parametrize(
    "key", ["layers.0.attention.to_q.weight_scale", "layers.0.attention.to_q.comfy_quant"]
)
def test_a_comfyui_fp8_file_is_refused_with_the_reason(key, copied) -> None:
    folder = copied("zimage")
    tensors = load_file(folder / WEIGHTS)
    weight = "layers.0.attention.to_q.weight"
    tensors |= {weight: tensors[weight].to(torch.float8_e4m3fn), key: torch.ones((), dtype=torch.float32)}
    save_file(tensors, folder / WEIGHTS)
    message = refused(folder)
    assert str(folder / WEIGHTS) in message
    assert "drop their scales" in message


def test_the_prompt_enhancer_of_ernie_is_not_loaded(copied) -> None:
    folder = copied("ernie")
    edit(
        folder / "model_index.json",
        pe=["transformers", "Ministral3ForCausalLM"],
        pe_tokenizer=["transformers", "PreTrainedTokenizerFast"],
    )
    assert sample(load_pipeline(folder, device="cpu", precision="fp32")).isfinite().all()


# --- through the server -----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_table_through_each_folder_gives_a_picture_a_row(
    precision: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """One engine, three checkpoints by their folders' names, and the demo's own beside them."""
    table = tmp_path / "rows.csv"
    rows = [
        f"{name}-{n},{path.name},a {colour} mug"
        for name, path in folders.items()
        for n, colour in enumerate(("red", "blue"))
    ]
    table.write_text("\n".join(["id,CheckpointLoaderSimple.ckpt_name,prompt", *rows]), encoding="utf-8")
    small = {"EmptySD3LatentImage.width": "64", "EmptySD3LatentImage.height": "48", "KSampler.steps": "2"}
    models = next(iter(folders.values())).parent

    with Engine(tmp_path / "engine", models=[models], precision=precision) as engine:
        request = Request(table, DEMO, (engine.url,), bindings=small)
        result = run(request, out=tmp_path / "out")

    assert result.counts[JobState.DONE] == 6
    pictures = {path.name: Image.open(path).convert("RGB") for path in (tmp_path / "out").glob("*.png")}
    assert {picture.size for picture in pictures.values()} == {(64, 48)}
    assert len({picture.tobytes() for picture in pictures.values()}) == 6
