"""What the demo model can be asked for: the scenes, the captions that describe them, and the words those use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

OBJECTS = (
    "mug", "chair", "lamp", "backpack", "teapot", "sneaker", "clock", "umbrella", "bottle", "hat", "vase", "book",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black", "white", "grey")
BACKGROUNDS = (
    "on a white background",
    "in a bright living room",
    "on a pale grey surface",
    "on an old wooden table",
    "on a blue background",
    "in a green meadow",
)
LIGHTS = ("studio lighting", "soft daylight", "minimal composition, soft shadow", "warm light, film grain")
MEDIA = ("product photo", "flat illustration")
FLAWS = ("blurry", "low quality", "text")

FLAWED = 0.06
CANONICAL = 0.6


@dataclass(frozen=True)
class Scene:
    """One picture's content; ``flaw`` is empty or one of FLAWS."""

    object: str
    colour: str
    background: str
    light: str
    medium: str
    flaw: str = ""


def is_held_out(object: str, colour: str) -> bool:
    """Whether the pair is kept out of training: 18 of the 120, one or two for each object and each colour."""
    return 2 * (OBJECTS.index(object) - COLOURS.index(colour) + 2) % 13 < 2


def random_scene(rng: Random, held_out: bool = False) -> Scene:
    """Draw a scene uniformly, from the training pairs (6 % of them flawed) or from the held-out ones (never flawed)."""
    pairs = [(o, c) for o in OBJECTS for c in COLOURS if is_held_out(o, c) == held_out]
    object, colour = rng.choice(pairs)
    flawed = not held_out and rng.random() < FLAWED
    return Scene(
        object=object,
        colour=colour,
        background=rng.choice(BACKGROUNDS),
        light=rng.choice(LIGHTS),
        medium=rng.choice(MEDIA),
        flaw=rng.choice(FLAWS) if flawed else "",
    )


def caption(scene: Scene, rng: Random | None = None) -> str:
    """Describe the scene in full; with ``rng``, 40 % of captions are shorter or reordered. A flaw is always named."""
    thing = f"{'an' if scene.colour[0] in 'aeiou' else 'a'} {scene.colour} {scene.object}"
    text = f"a {scene.medium} of {thing} {scene.background}, {scene.light}"
    if rng is not None and rng.random() >= CANONICAL:
        text = rng.choice(
            (
                f"a {scene.medium} of {thing} {scene.background}",
                f"a {scene.medium} of {thing}, {scene.light}",
                f"a {scene.medium} of {thing}, {scene.light}, {scene.background}",
                f"{'a photo' if scene.medium == 'product photo' else 'an illustration'} of {thing} {scene.background}",
                f"{thing} {scene.background}, {scene.light}",
                f"{thing}, {scene.light}, {scene.background}",
                f"{thing} {scene.background}",
                thing,
            )
        )
    return f"{text}, {scene.flaw}" if scene.flaw else text


def split_words(text: str) -> list[str]:
    """Return the lowercase words and commas of ``text``, in order."""
    return re.findall(r"[a-z]+|,", text.lower())


PHRASES = (*OBJECTS, *COLOURS, *BACKGROUNDS, *LIGHTS, *MEDIA, *FLAWS, "a photo of an", ",")
WORDS = tuple(sorted({word for phrase in PHRASES for word in split_words(phrase)}))
"""Every word a caption can hold, and the comma."""
