"""The drawings that the demo model learns from: what they show, and that their captions say it."""

from __future__ import annotations

import csv
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptmill.tools.demo_model.drawing import PALETTE, draw
from promptmill.tools.demo_model.scenes import (
    BACKGROUNDS,
    COLOURS,
    FLAWS,
    LIGHTS,
    MEDIA,
    OBJECTS,
    WORDS,
    Scene,
    caption,
    is_held_out,
    random_scene,
    split_words,
)

PRODUCTS = Path(__file__).parents[2] / "samples" / "products.csv"
RED_MUG = Scene("mug", "red", BACKGROUNDS[0], LIGHTS[0], MEDIA[0])
HELD_OUT = [(o, c) for o in OBJECTS for c in COLOURS if is_held_out(o, c)]


def pixels(scene: Scene, seed: int = 0, size: int | tuple[int, int] = 64) -> np.ndarray:
    return np.asarray(draw(scene, random.Random(seed), size)).astype(np.int16)


def coloured_area(scene: Scene) -> np.ndarray:
    """Where the picture changes with the object's colour and with nothing else."""
    one, other = (pixels(replace(scene, colour=colour)) for colour in ("white", "black"))
    return np.abs(one - other).sum(axis=2) > 150


def chroma_doubled(colours: np.ndarray) -> np.ndarray:
    """[n, 3] in YCbCr (JPEG's matrix) with Cb and Cr counted double: shading changes lightness more than hue."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])
    return colours @ matrix.T * (1, 2, 2)


@pytest.mark.parametrize("medium", MEDIA)
def test_the_same_scene_and_seed_give_the_same_pixels_and_another_seed_does_not(medium: str) -> None:
    scene = replace(RED_MUG, medium=medium, background=BACKGROUNDS[3], light=LIGHTS[3])

    assert np.array_equal(pixels(scene, 7), pixels(scene, 7))
    assert not np.array_equal(pixels(scene, 7), pixels(scene, 8))


@pytest.mark.parametrize(
    ("size", "expected"), [(128, (128, 128)), ((96, 64), (96, 64)), ((64, 100), (64, 100))]
)
def test_a_picture_has_the_size_that_was_asked_for(
    size: int | tuple[int, int], expected: tuple[int, int]
) -> None:
    picture = draw(RED_MUG, random.Random(0), size)

    assert (picture.size, picture.mode) == (expected, "RGB")


def test_the_prompts_of_the_example_table_are_full_captions_of_training_pairs() -> None:
    with PRODUCTS.open(encoding="utf-8-sig", newline="") as file:
        prompts = {row["prompt"] for row in csv.DictReader(file)}
    captions = {
        caption(Scene(o, c, background, light, medium))
        for o in OBJECTS
        for c in COLOURS
        if not is_held_out(o, c)
        for background in BACKGROUNDS
        for light in LIGHTS
        for medium in MEDIA
    }

    assert prompts
    assert prompts <= captions


def test_a_full_caption_names_everything_in_order() -> None:
    scene = Scene("hat", "orange", "in a bright living room", "soft daylight", "flat illustration", "blurry")

    assert (
        caption(scene)
        == "a flat illustration of an orange hat in a bright living room, soft daylight, blurry"
    )


def test_captions_vary_but_always_name_the_object_its_colour_and_the_flaw_in_known_words() -> None:
    rng = random.Random(1)
    full = 0
    for _ in range(2000):
        scene = random_scene(rng)
        text = caption(scene, rng)
        words = split_words(text)
        assert set(words) <= set(WORDS)
        assert f"{scene.colour} {scene.object}" in text
        assert text.endswith(scene.flaw)
        assert "a orange" not in text
        full += text == caption(scene)

    assert 0.55 < full / 2000 < 0.65


def test_every_word_is_used_by_some_caption() -> None:
    rng = random.Random(2)
    said = {word for _ in range(6000) for word in split_words(caption(random_scene(rng), rng))}

    assert said == set(WORDS)


def test_about_15_percent_of_the_pairs_are_held_out_a_few_of_each_object_and_colour() -> None:
    objects, colours = (Counter(pair[part] for pair in HELD_OUT) for part in (0, 1))

    assert 0.13 <= len(HELD_OUT) / (len(OBJECTS) * len(COLOURS)) <= 0.17
    assert set(objects) == set(OBJECTS)
    assert set(colours) == set(COLOURS)
    assert max(*objects.values(), *colours.values()) <= 2


def test_training_scenes_never_show_a_held_out_pair_and_held_out_scenes_show_all_of_them() -> None:
    rng = random.Random(3)
    training = [random_scene(rng) for _ in range(3000)]
    held_out = [random_scene(rng, held_out=True) for _ in range(600)]

    assert not {(s.object, s.colour) for s in training} & set(HELD_OUT)
    assert {(s.object, s.colour) for s in held_out} == set(HELD_OUT)
    assert not any(scene.flaw for scene in held_out)
    assert 0.04 < sum(bool(scene.flaw) for scene in training) / len(training) < 0.08


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("thing", OBJECTS)
def test_an_object_looks_most_like_its_own_colour(thing: str, light: str, medium: str) -> None:
    scene = Scene(thing, "white", BACKGROUNDS[0], light, medium)
    area = coloured_area(scene)
    own = chroma_doubled(np.array([PALETTE[colour] for colour in COLOURS]))

    for colour in COLOURS:
        mean = pixels(replace(scene, colour=colour))[area].mean(axis=0)
        nearest = COLOURS[np.linalg.norm(own - chroma_doubled(mean[None]), axis=1).argmin()]
        assert nearest == colour, f"{colour} looks {nearest}: {mean.round()}"


@pytest.mark.parametrize("thing", OBJECTS)
def test_an_object_is_large_and_whole(thing: str) -> None:
    area = coloured_area(replace(RED_MUG, object=thing))
    rows, columns = np.nonzero(area.any(axis=1))[0], np.nonzero(area.any(axis=0))[0]

    assert max(np.ptp(rows), np.ptp(columns)) >= 0.45 * 64
    assert area.mean() > 0.06
    assert not area[0].any()
    assert not area[-1].any()
    assert not area[:, 0].any()
    assert not area[:, -1].any()


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("colour", COLOURS)
def test_an_object_stands_out_from_every_background(colour: str, background: str, medium: str) -> None:
    scene = replace(RED_MUG, colour=colour, background=background, medium=medium)
    area = Image.fromarray(coloured_area(scene))
    picture = pixels(scene)
    inside = np.asarray(area)
    steps = np.abs(np.diff(picture, axis=1)).max(axis=2)[inside[:, 1:] != inside[:, :-1]]

    assert np.median(steps) > 12


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_is_visible(flaw: str) -> None:
    clean, flawed = pixels(RED_MUG), pixels(replace(RED_MUG, flaw=flaw))

    assert np.abs(clean - flawed).mean() > 2
