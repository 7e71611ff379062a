"""Given the demo checkpoint, expect pictures of what the prompt says, and the same ones from a real ComfyUI."""

from __future__ import annotations

import csv
import io
import pickle
import random
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from promptmill.driver import Request, run
from promptmill.driver.comfy import ComfyClient, JobState, Lookup
from promptmill.driver.engine import Engine, demo
from promptmill.driver.engine.demo.export import export
from promptmill.driver.engine.models import Checkpoint, Settings, load
from promptmill.driver.engine.models.sampling import SAMPLERS, SCHEDULERS
from promptmill.driver.engine.server import engine as offered
from promptmill.errors import CheckpointError
from promptmill.tools.demo_model.drawing import draw
from promptmill.tools.demo_model.networks import Judge
from promptmill.tools.demo_model.scenes import (
    BACKGROUNDS,
    COLOURS,
    OBJECTS,
    Scene,
    caption,
    is_held_out,
    random_scene,
)

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / "workflows" / "demo.json"
ROWS = 40
QUESTIONS = {"object": OBJECTS, "colour": COLOURS, "background": BACKGROUNDS}


@pytest.fixture(scope="module")
def judge() -> Judge:
    judge = Judge({name: len(choices) for name, choices in QUESTIONS.items()})
    judge.load_state_dict(load_file(Path(__file__).with_name("judge.safetensors")))
    return judge.eval()


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load(demo.NAME, device="cpu")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ComfyUI's folders with the exported checkpoint."""
    base = tmp_path_factory.mktemp("exported")
    export(base / "models" / "checkpoints")
    return base


@pytest.fixture(scope="module")
def real(start_comfyui: Callable[..., Any], exported: Path) -> str:
    url: str = start_comfyui(exported).url
    return url


def scenes(count: int, seed: int) -> list[Scene]:
    rng = random.Random(seed)
    return [random_scene(rng, held_out=True) for _ in range(count)]


def answers(judge: Judge, pictures: list[Image.Image]) -> list[dict[str, str]]:
    pixels = torch.from_numpy(np.stack([np.asarray(one.convert("RGB")) for one in pictures]))
    with torch.inference_mode():
        logits = judge(pixels.permute(0, 3, 1, 2).float() / 255)
    said = {name: found.argmax(1).tolist() for name, found in logits.items()}
    return [{name: QUESTIONS[name][said[name][row]] for name in QUESTIONS} for row in range(len(pictures))]


def right(scene: Scene, answer: dict[str, str]) -> bool:
    return all(getattr(scene, name) == said for name, said in answer.items())


def test_the_judge_knows_drawings_it_never_saw(judge: Judge) -> None:
    asked = scenes(100, seed=99)
    rng = random.Random(98)
    said = answers(judge, [draw(scene, rng, 128) for scene in asked])

    assert sum(map(right, asked, said)) >= 99
    assert sum(map(right, asked[1:] + asked[:1], said)) <= 5, "and does not say yes to anything"


@pytest.fixture(params=["engine", pytest.param("real", marks=pytest.mark.comfyui)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "real":
        yield request.getfixturevalue("real")
    else:
        with Engine(tmp_path / "engine") as engine:
            yield engine.url


@pytest.mark.timeout(900)
def test_pictures_of_pairs_it_never_saw_show_what_the_prompt_says(
    url: str, judge: Judge, tmp_path: Path
) -> None:
    """Seen words, unseen pairs, 8 steps: at least 95 % with the right object, colour and background."""
    asked = scenes(ROWS, seed=5)
    assert all(is_held_out(scene.object, scene.colour) for scene in asked)
    table = tmp_path / "unseen.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [["id", "prompt"], *([f"R{n:03}", caption(scene)] for n, scene in enumerate(asked))]
        )

    result = run(Request(table, WORKFLOW, (url,)), out=tmp_path / "out")

    assert result.exit_code == 0
    said = answers(judge, [Image.open(tmp_path / "out" / f"R{n:03}_1.png") for n in range(ROWS)])
    wrong = [
        (caption(scene), answer)
        for scene, answer in zip(asked, said, strict=True)
        if not right(scene, answer)
    ]
    assert len(wrong) <= ROWS * 0.05, wrong


def picture(
    checkpoint: Checkpoint, text: str, settings: Settings, negative: str = "", size: int = 128
) -> Tensor:
    empty = torch.zeros(1, 16, size // 8, size // 8)
    encode = checkpoint.clip.encode
    latent = checkpoint.model.sample(empty, encode(text), encode(negative), settings, lambda *_: None)
    return checkpoint.vae.decode(latent).clamp(0, 1)


def test_another_size_shows_the_same_things(checkpoint: Checkpoint, judge: Judge) -> None:
    asked = scenes(10, seed=6)
    made = [
        picture(checkpoint, caption(scene), Settings(n, 8, 3.0, "euler", "simple"), size=192)
        for n, scene in enumerate(asked)
    ]
    images = [Image.fromarray((one[0] * 255).byte().numpy()).resize((128, 128)) for one in made]

    assert sum(map(right, asked, answers(judge, images))) >= 8


def test_a_flaw_in_the_negative_prompt_is_avoided(checkpoint: Checkpoint) -> None:
    """ "blurry" as the prompt's flaw blurs; as the negative prompt it does not."""

    def sharpness(text: str, negative: str) -> float:
        made = [
            picture(checkpoint, text, Settings(seed, 8, 3.0, "euler", "simple"), negative)
            for seed in range(4)
        ]
        return float(torch.stack(made).diff(dim=-2).abs().mean())

    text = "a red mug on a white background"
    assert sharpness(text, "blurry") > 1.2 * sharpness(f"{text}, blurry", "")


def test_words_it_was_not_trained_on_are_reported(checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError) as error:
        checkpoint.clip.encode("a Red mug on mars, 4k")

    assert error.value.value == "mars, 4, k"
    assert "teapot" in error.value.hint


@pytest.mark.parametrize("text", ["a (red mug:1.3)", "a red mug, " * 40])
def test_what_the_encoder_cannot_read_is_refused(checkpoint: Checkpoint, text: str) -> None:
    with pytest.raises(CheckpointError, match=r"weights|too long"):
        checkpoint.clip.encode(text)


def spoilt(kind: str) -> bytes:
    """The demo checkpoint, damaged or of another kind."""
    data = demo.PATH.read_bytes()
    with safe_open(demo.PATH, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(demo.PATH)
    match kind:
        case "truncated":
            return data[: len(data) // 2]
        case "a pickle":
            return pickle.dumps({"weight": 1})
        case "empty":
            return b""
        case "a tensor is missing":
            del tensors["model.diffusion_model.pos_embed"]
        case "a tensor has another shape":
            tensors["model.diffusion_model.context_embedder.weight"] = torch.zeros(7, 768)
        case "another model":
            metadata = None
        case "the words are damaged":
            metadata = {name: "[1" for name in metadata}
        case "quantized for ComfyUI":
            tensors["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.comfy_quant"] = torch.zeros(3)
    return save(tensors, metadata)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("truncated", "not a whole"),
        ("a pickle", "not a whole"),
        ("empty", "not a whole"),
        ("a tensor is missing", "pos_embed"),
        ("a tensor has another shape", "shape"),
        ("another model", "need ComfyUI"),
        ("the words are damaged", "not a checkpoint"),
        ("quantized for ComfyUI", "scales"),
    ],
)
def test_a_bad_checkpoint_is_an_error_that_names_it_and_the_next_prompt_works(
    kind: str, told: str, tmp_path: Path
) -> None:
    bad = graph("euler", "simple", 1.0, 1, 3.0, width=64, height=64)
    bad["1"]["inputs"]["ckpt_name"] = "bad.safetensors"
    good = graph("euler", "simple", 1.0, 1, 3.0, width=64, height=64)
    with Engine(tmp_path) as engine:
        (tmp_path / "models" / "checkpoints" / "bad.safetensors").write_bytes(spoilt(kind))
        found = [answer(engine.url, prompt) for prompt in (bad, good)]

    assert [one.state for one in found] == [JobState.FAILED, JobState.DONE]
    assert found[0].error is not None
    assert told in found[0].error.message
    assert "bad.safetensors" in found[0].error.message


def test_the_server_offers_the_samplers_and_schedulers_there_are() -> None:
    """It names them itself, because it answers before torch is there."""
    assert (set(offered.SAMPLERS), set(offered.SCHEDULERS)) == (set(SAMPLERS), set(SCHEDULERS))


def test_the_shipped_file_is_small() -> None:
    assert demo.PATH.stat().st_size <= 16 * 2**20


def test_the_exported_file_makes_the_same_picture(exported: Path, checkpoint: Checkpoint) -> None:
    full = load(exported / "models" / "checkpoints" / demo.NAME, device="cpu")
    settings = Settings(7, 4, 3.0, "euler", "simple")

    assert torch.equal(picture(full, "a blue hat", settings), picture(checkpoint, "a blue hat", settings))


def test_exporting_twice_gives_the_same_bytes(exported: Path, tmp_path: Path) -> None:
    again = export(tmp_path)

    assert again.read_bytes() == (exported / "models" / "checkpoints" / demo.NAME).read_bytes()
    assert list(tmp_path.iterdir()) == [again]


def graph(
    sampler: str, scheduler: str, cfg: float, steps: int, shift: float, **latent: Any
) -> dict[str, Any]:
    def node(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs}

    return {
        "1": node("CheckpointLoaderSimple", ckpt_name=demo.NAME),
        "2": node("CLIPTextEncode", text="a photo of a purple teapot in a green meadow", clip=["1", 1]),
        "3": node("CLIPTextEncode", text="blurry", clip=["1", 1]),
        "4": node("EmptySD3LatentImage", **{"width": 128, "height": 160, "batch_size": 2, **latent}),
        "5": node("ModelSamplingSD3", model=["1", 0], shift=shift),
        "6": node(
            "KSampler",
            model=["5", 0],
            positive=["2", 0],
            negative=["3", 0],
            latent_image=["4", 0],
            seed=2**53 + 1,
            steps=steps,
            cfg=cfg,
            sampler_name=sampler,
            scheduler=scheduler,
            denoise=1.0,
        ),
        "7": node("VAEDecode", samples=["6", 0], vae=["1", 2]),
        "8": node("SaveImage", images=["7", 0], filename_prefix=f"cross/{sampler}_{scheduler}"),
    }


def answer(url: str, prompt: dict[str, Any]) -> Lookup:
    client, prompt_id = ComfyClient(url), str(uuid.uuid4())
    client.submit(prompt_id, prompt, client_id=None)
    while client.queue_remaining():
        time.sleep(0.05)
    return client.lookup(prompt_id)


def through(url: str, prompt: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The pictures of the graph's last node, [B, H, W, 3]."""
    client, found = ComfyClient(url), answer(url, prompt)
    assert found.outputs, found
    pictures = [Image.open(io.BytesIO(client.fetch(image))).convert("RGB") for image in found.outputs]
    return np.stack([np.asarray(one).astype(int) for one in pictures])


@pytest.fixture(scope="module")
def engine(exported: Path) -> Any:
    with Engine(exported) as engine:
        yield engine.url


@pytest.mark.comfyui
@pytest.mark.parametrize(
    ("scheduler", "sampler"),
    [
        *(("simple", sampler) for sampler in ("euler", "euler_ancestral", "dpmpp_2m")),
        *((scheduler, "euler") for scheduler in ("normal", "sgm_uniform", "beta")),
    ],
)
def test_a_real_comfyui_makes_the_same_picture(real: str, engine: str, sampler: str, scheduler: str) -> None:
    for cfg, steps, shift in ((3.0, 8, 3.0), (1.0, 5, 1.5)):
        prompt = graph(sampler, scheduler, cfg, steps, shift)
        there, here = through(real, prompt), through(engine, prompt)

        assert there.shape == here.shape == (2, 160, 128, 3)
        assert there.std() > 20, "a picture, not a blank"
        assert abs(there - here).max() <= 2


@pytest.mark.comfyui
def test_a_real_comfyui_makes_the_same_picture_of_a_picture(real: str, engine: str, exported: Path) -> None:
    """LoadImage, ImageScale, VAEEncode, denoise below 1, an empty conditioning."""
    scene = Scene("mug", "red", BACKGROUNDS[0], "studio lighting", "product photo")
    draw(scene, random.Random(1), (150, 170)).save(exported / "input" / "mug.png")
    prompt = graph("euler", "simple", 2.0, 8, 3.0)
    prompt["6"]["inputs"] |= {"denoise": 0.6, "latent_image": ["4", 0], "negative": ["11", 0]}
    scaling = {"upscale_method": "bilinear", "width": 135, "height": 149, "crop": "center"}
    prompt |= {
        "9": {"class_type": "LoadImage", "inputs": {"image": "mug.png"}},
        "10": {"class_type": "ImageScale", "inputs": {"image": ["9", 0], **scaling}},
        "4": {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["1", 2]}},
        "11": {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["3", 0]}},
    }

    there, here = through(real, prompt), through(engine, prompt)

    assert there.shape == here.shape == (1, 144, 128, 3)
    assert abs(there - here).max() <= 2
