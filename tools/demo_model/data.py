"""The training pictures: drawn in parallel, kept as one array of bytes."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .drawing import draw
from .scenes import Scene, caption, random_scene

Pictures = NDArray[np.uint8]
CAPTIONS = 4


def pictures(
    count: int, size: int, seed: int, scene: Callable[[random.Random], Scene] = random_scene
) -> tuple[Pictures, list[list[str]], list[Scene]]:
    """
    Draw ``count`` random scenes.

    :param scene: which scenes; those of training, without the held-out pairs, when omitted.
    :return: pixels [count, size, size, 3], and of each its captions (the full one first) and its scene.
    """
    share = 256
    seeds = range(seed * 1_000_000, seed * 1_000_000 + -(-count // share))
    pixels: list[Pictures] = []
    captions: list[list[str]] = []
    scenes: list[Scene] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for some in pool.map(partial(_some, share, size, scene), seeds):
            pixels.append(some[0])
            captions += some[1]
            scenes += some[2]
    return np.concatenate(pixels)[:count], captions[:count], scenes[:count]


def _some(
    count: int, size: int, scene: Callable[[random.Random], Scene], seed: int
) -> tuple[Pictures, list[list[str]], list[Scene]]:
    rng = random.Random(seed)
    scenes = [scene(rng) for _ in range(count)]
    captions = [[caption(one), *(caption(one, rng) for _ in range(CAPTIONS - 1))] for one in scenes]
    return np.stack([np.asarray(draw(one, rng, size)) for one in scenes]), captions, scenes
