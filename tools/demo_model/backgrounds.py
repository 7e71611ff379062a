"""The places an object stands in, painted as [H, W, 3] in 0..255; the horizon lies at 60 % of the height."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .canvas import SUPERSAMPLING, Colour, Pixels, tone

HORIZON = 0.6
Size = tuple[int, int]


def ramp(size: Size, *stops: tuple[float, Colour]) -> Pixels:
    """Return rows that blend from one colour to the next; a stop is a height in 0..1 from the top and its colour."""
    at = [stop for stop, _ in stops]
    y = np.linspace(0, 1, size[1])
    column = np.stack([np.interp(y, at, [colour[part] for _, colour in stops]) for part in range(3)], axis=1)
    return np.broadcast_to(column[:, None, :], (size[1], size[0], 3)).astype(np.float32)


class Painter:
    """Draws shapes given in fractions of the picture, y down, over what is painted already."""

    def __init__(self, base: Pixels) -> None:
        self.width, self.height = base.shape[1] * SUPERSAMPLING, base.shape[0] * SUPERSAMPLING
        image = Image.fromarray(base.astype(np.uint8))
        self.image = image.resize((self.width, self.height), Image.Resampling.NEAREST)
        self._draw = ImageDraw.Draw(self.image)

    def fill(self, colour: Colour, *corners: tuple[float, float]) -> None:
        """Fill a polygon."""
        self._draw.polygon([(x * self.width, y * self.height) for x, y in corners], fill=colour)

    def box(self, colour: Colour, x0: float, y0: float, x1: float, y1: float) -> None:
        """Fill a rectangle."""
        self.fill(colour, (x0, y0), (x1, y0), (x1, y1), (x0, y1))

    def oval(self, colour: Colour, x: float, y: float, rx: float, ry: float) -> None:
        """Fill an ellipse."""
        w, h = self.width, self.height
        self._draw.ellipse(((x - rx) * w, (y - ry) * h, (x + rx) * w, (y + ry) * h), fill=colour)

    def finish(self, softness: float = 0.0) -> Pixels:
        """Return the picture at its own size; ``softness`` is a blur in hundredths of its width."""
        image = self.image.reduce(SUPERSAMPLING)
        if softness:
            image = image.filter(ImageFilter.GaussianBlur(softness * image.width / 100))
        return np.asarray(image, dtype=np.float32)


def white(size: Size, rng: Random, flat: bool) -> Pixels:
    """A studio sweep."""
    if flat:
        return ramp(size, (0, (253, 253, 253)), (1, (253, 253, 253)))
    horizon = HORIZON + rng.uniform(-0.02, 0.02)
    return ramp(
        size,
        (0, (246, 247, 248)),
        (horizon - 0.1, (251, 251, 252)),
        (horizon + 0.03, (238, 239, 241)),
        (1, (252, 252, 252)),
    )


def living_room(size: Size, rng: Random, flat: bool) -> Pixels:
    """A warm wall with a bright window on the left, a plant on the right and a wooden floor."""
    shift = rng.uniform(-0.03, 0.03)
    wall: Colour = (240, 224, 198)
    floor: Colour = (205, 164, 118)
    base = (
        ramp(size, (0, wall), (HORIZON, wall), (HORIZON + 0.01, floor), (1, floor))
        if flat
        else ramp(
            size,
            (0, (246, 233, 212)),
            (HORIZON, (232, 212, 182)),
            (HORIZON + 0.01, (194, 150, 104)),
            (1, (222, 184, 138)),
        )
    )
    paint = Painter(base)
    x0, x1 = 0.05 + shift, 0.36 + shift
    paint.box((255, 252, 244), x0 - 0.02, 0.06, x1 + 0.02, 0.46)
    paint.box((196, 226, 244), x0, 0.08, x1, 0.44)
    paint.box((172, 210, 160), x0, 0.34, x1, 0.44)
    paint.box((255, 252, 244), (x0 + x1) / 2 - 0.008, 0.08, (x0 + x1) / 2 + 0.008, 0.44)
    paint.box((255, 252, 244), x0, 0.235, x1, 0.251)
    paint.box((252, 246, 236), 0.0, HORIZON - 0.03, 1.0, HORIZON)
    for start in (-0.2, 0.1, 0.37, 0.63, 0.9, 1.2):
        end = 0.5 + (start - 0.5) * 2.0
        paint.fill(
            tone(floor, -0.14), (start, HORIZON), (start + 0.006, HORIZON), (end + 0.012, 1.0), (end, 1.0)
        )
    plant = 0.91 + shift
    for x, y, r in (
        (-0.05, 0.3, 0.05),
        (0.05, 0.27, 0.055),
        (0.0, 0.2, 0.05),
        (-0.015, 0.36, 0.06),
        (0.06, 0.37, 0.05),
    ):
        paint.oval((92, 146, 92) if x < 0.02 else (74, 126, 80), plant + x, y, r * 0.8, r * 1.25)
    paint.fill(
        (214, 128, 88), (plant - 0.07, 0.46), (plant + 0.07, 0.46), (plant + 0.05, 0.63), (plant - 0.05, 0.63)
    )
    return paint.finish(0 if flat else 0.9)


def grey_surface(size: Size, rng: Random, flat: bool) -> Pixels:
    """A pale grey surface before a slightly lighter wall."""
    wall, surface = (222, 224, 227), (200, 203, 207)
    horizon = HORIZON + rng.uniform(-0.02, 0.02)
    if flat:
        return ramp(size, (0, wall), (horizon, wall), (horizon + 0.005, surface), (1, surface))
    return ramp(
        size,
        (0, (214, 216, 220)),
        (horizon, (226, 228, 231)),
        (horizon + 0.012, (190, 193, 198)),
        (1, (212, 215, 219)),
    )


def wooden_table(size: Size, rng: Random, flat: bool) -> Pixels:
    """Worn planks that run away from the viewer, under a dim wall."""
    base = ramp(size, (0, (150, 126, 104)), (HORIZON - 0.02, (176, 150, 122)), (1, (176, 150, 122)))
    paint = Painter(base)
    shift = rng.uniform(-0.06, 0.06)
    edges = [-0.9 + 0.28 * k + shift for k in range(11)]
    wood: Colour = (168, 112, 66)

    def across(x: float, y: float) -> tuple[float, float]:
        return 0.5 + (x - 0.5) * (0.62 + 0.9 * (y - HORIZON)), y

    for number, (left, right) in enumerate(pairwise(edges)):
        plank = tone(wood, (0.07, -0.09, 0.0, -0.04)[number % 4])
        paint.fill(
            plank, across(left, HORIZON), across(right, HORIZON), across(right, 1.0), across(left, 1.0)
        )
        for _ in range(2 if flat else 5):
            x, y, length = (
                rng.uniform(left, right - 0.02),
                rng.uniform(HORIZON, 0.95),
                rng.uniform(0.06, 0.25),
            )
            end = min(y + length, 1.0)
            paint.fill(
                tone(wood, -0.2),
                across(x, y),
                across(x + 0.008, y),
                across(x + 0.014, end),
                across(x + 0.004, end),
            )
        paint.fill(
            tone(wood, -0.5),
            across(right - 0.007, HORIZON),
            across(right, HORIZON),
            across(right, 1.0),
            across(right - 0.007, 1.0),
        )
    pixels = paint.finish(0 if flat else 0.4)
    if not flat:
        pixels = pixels * ramp(size, (0, (255,) * 3), (HORIZON, (232,) * 3), (1, (268,) * 3)) / 255
    return pixels


def blue(size: Size, rng: Random, flat: bool) -> Pixels:
    """A plain sweep of light blue paper."""
    if flat:
        return ramp(size, (0, (142, 194, 236)), (1, (142, 194, 236)))
    horizon = HORIZON + rng.uniform(-0.02, 0.02)
    return ramp(
        size,
        (0, (124, 180, 226)),
        (horizon - 0.1, (152, 202, 240)),
        (horizon + 0.03, (128, 184, 230)),
        (1, (150, 202, 242)),
    )


def meadow(size: Size, rng: Random, flat: bool) -> Pixels:
    """Grass with a few flowers, a far hill and the sky."""
    base = ramp(
        size,
        (0, (150, 204, 244)),
        (HORIZON - 0.04, (222, 240, 250)),
        (HORIZON, (150, 200, 92)),
        (1, (126, 182, 72)),
    )
    paint = Painter(base)
    paint.oval((172, 212, 140), 0.2 + rng.uniform(-0.05, 0.05), HORIZON + 0.06, 0.5, 0.15)
    paint.oval((156, 202, 120), 0.85 + rng.uniform(-0.05, 0.05), HORIZON + 0.06, 0.45, 0.12)
    cloud = rng.uniform(-0.04, 0.04)
    for x, y, r in (
        (0.14, 0.15, 0.06),
        (0.2, 0.13, 0.07),
        (0.27, 0.16, 0.05),
        (0.85, 0.1, 0.05),
        (0.91, 0.11, 0.06),
    ):
        paint.oval((250, 252, 255), x + cloud, y, r, r * 0.55)
    paint.box((150, 200, 92), 0.0, HORIZON, 1.0, 1.0)
    for _ in range(16 if flat else 60):
        x, y = rng.random(), rng.uniform(HORIZON, 1.0)
        tall, lean = 0.03 + 0.07 * (y - HORIZON), rng.uniform(-0.015, 0.015)
        paint.fill(
            rng.choice(((116, 174, 66), (172, 214, 108))), (x, y), (x + 0.012, y), (x + lean, y - tall)
        )
    for _ in range(9):
        x, y = rng.random(), rng.uniform(HORIZON + 0.03, 0.98)
        paint.oval(rng.choice(((255, 255, 250), (255, 226, 92))), x, y, 0.011, 0.009)
    pixels = paint.finish(0 if flat else 0.4)
    return (
        pixels if flat else pixels * ramp(size, (0, (255,) * 3), (HORIZON, (262,) * 3), (1, (225,) * 3)) / 255
    )


BACKGROUNDS: dict[str, Callable[[Size, Random, bool], Pixels]] = {
    "on a white background": white,
    "in a bright living room": living_room,
    "on a pale grey surface": grey_surface,
    "on an old wooden table": wooden_table,
    "on a blue background": blue,
    "in a green meadow": meadow,
}
