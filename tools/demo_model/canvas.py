"""Shapes on a supersampled canvas: what colour each pixel has, and how the light falls on it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Points = NDArray[np.float64]
Pixels = NDArray[np.floating[Any]]

SUPERSAMPLING = 3
NEUTRAL = 128
INK: Colour = (38, 34, 46)


def tone(colour: Colour, amount: float) -> Colour:
    """Lighten (``amount`` above 0, up to 1) or darken the colour; what is almost black is lightened either way."""
    if amount > 0 or sum(colour) < 160:
        target, share = 255, abs(amount) * (1.0 if amount > 0 else 0.5)
    else:
        target, share = 0, -amount
    r, g, b = (round(part + (target - part) * share) for part in colour)
    return r, g, b


def outline(colour: Colour) -> Colour:
    """Return the colour of a flat shape's outline: ink, or a grey that shows on ink."""
    return INK if sum(colour) > 160 else (104, 104, 112)


@lru_cache(maxsize=512)
def curve(*knots: tuple[float, float], closed: bool = True) -> Points:
    """Return a Catmull-Rom spline through the knots, 8 points for each span, as [n, 2]."""
    p = np.array(knots)
    p = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    t = np.linspace(0, 1, 8, endpoint=False)[None, :, None]
    a, b, c, d = (p[i : len(p) - 3 + i, None, :] for i in range(4))
    spans = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    points = spans.reshape(-1, 2)
    return points if closed else np.concatenate([points, p[-1:]])


@lru_cache(maxsize=512)
def arc(x: float, y: float, rx: float, ry: float, start: float = 0.0, end: float = 360.0) -> Points:
    """Return points on an ellipse, from ``start`` to ``end`` degrees (0 is right, 90 is up)."""
    angles = np.radians(np.linspace(start, end, 40))
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


def polygon(*corners: tuple[float, float]) -> Points:
    """Return the corners as [n, 2]."""
    return np.array(corners)


def rounded(x0: float, y0: float, x1: float, y1: float, radius: float) -> Points:
    """Return a rectangle with round corners."""
    r = radius
    return np.concatenate(
        [
            arc(x1 - r, y1 - r, r, r, 0, 90),
            arc(x0 + r, y1 - r, r, r, 90, 180),
            arc(x0 + r, y0 + r, r, r, 180, 270),
            arc(x1 - r, y0 + r, r, r, 270, 360),
        ]
    )


def _gradients() -> dict[str, Image.Image]:
    v, u = np.mgrid[0:1:64j, 0:1:64j]
    x, y = 2 * u - 1, 2 * v - 1
    highlight = np.exp(-(((u - 0.27) / 0.11) ** 2))
    pipe = (
        26 + 62 * highlight - 120 * np.clip((u - 0.35) / 0.65, 0, 1) ** 1.4 - 50 * np.clip(1 - u / 0.14, 0, 1)
    )
    z = np.sqrt(np.clip(1 - x**2 - y**2, 0, 1))
    facing = -0.5 * x - 0.6 * y + 0.62 * z
    spot = np.exp(-(((x + 0.38) ** 2 + (y + 0.45) ** 2) / 0.045))
    ball = -72 + 112 * facing + 70 * spot
    plane = 24 - 34 * u - 26 * v
    glint = np.exp(-(((x + 0.3) / 0.3) ** 2 + ((y + 0.5) / 0.22) ** 2))
    dome = 22 + 34 * glint - 62 * np.clip(v - 0.35, 0, 1) - 60 * np.clip(u - 0.5, 0, 1)
    maps = {"pipe": pipe, "ball": ball, "plane": plane, "dome": dome}
    return {name: Image.fromarray(np.clip(NEUTRAL + m, 0, 255).astype(np.uint8)) for name, m in maps.items()}


GRADIENTS = _gradients()


class Canvas:
    """Draws parts given in the object's own coordinates: x to the right from its middle, y up from its base.

    A part's ``shading`` names a gradient over its bounding box; None makes it a mark on the parts below.
    A ``flat`` canvas draws outlines instead of shading.
    """

    def __init__(
        self, size: tuple[int, int], matrix: Points, origin: tuple[float, float], flat: bool
    ) -> None:
        """
        :param size: width and height of the finished picture, in pixels.
        :param matrix: [2, 2], the object's units to pixels.
        :param origin: the pixel where the base of the object stands.
        """
        big = (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING)
        self.flat = flat
        self._matrix, self._origin = matrix.T * SUPERSAMPLING, np.array(origin) * SUPERSAMPLING
        self._unit = float(np.sqrt(abs(np.linalg.det(self._matrix))))
        self._images = [Image.new("RGB", big), Image.new("L", big), Image.new("L", big, NEUTRAL)]
        self._colour, self._cover, self._light = (ImageDraw.Draw(image) for image in self._images)

    def shape(self, points: Points, colour: Colour, shading: str | None = "plane") -> None:
        """Fill a closed outline."""
        pixels = points @ self._matrix + self._origin
        flattened = pixels.ravel().tolist()
        self._colour.polygon(flattened, fill=colour)
        self._cover.polygon(flattened, fill=255)
        if self.flat:
            if shading:
                self._line([*flattened, *flattened[:4]], outline(colour), self._outline)
        elif shading:
            self._shade(pixels, shading)

    def stroke(self, points: Points, width: float, colour: Colour, shaded: bool = True) -> None:
        """Draw a line with round ends, as a tube or (not ``shaded``) a mark; ``width`` is in the object's units."""
        pixels = points @ self._matrix + self._origin
        flattened = pixels.ravel().tolist()
        thickness = max(1, round(width * self._unit))
        if self.flat and shaded:
            self._line(flattened, outline(colour), thickness + 2 * self._outline)
        self._line(flattened, colour, thickness)
        if shaded and not self.flat:
            for lit, share, shift in ((-52, 1.0, 0.0), (0, 0.62, 0.1), (42, 0.26, 0.18)):
                towards_light = (pixels - thickness * shift).ravel().tolist()
                self._light.line(
                    towards_light, NEUTRAL + lit, max(1, round(thickness * share)), joint="curve"
                )

    def layers(self) -> tuple[Pixels, Pixels, Pixels]:
        """Return colour [H, W, 3] in 0..255, cover [H, W, 1] in 0..1 and light [H, W, 1] in -1..1."""
        colour, cover, light = (
            np.asarray(image.reduce(SUPERSAMPLING), dtype=np.float32) for image in self._images
        )
        alpha = cover[..., None] / 255
        return colour / np.maximum(alpha, 0.01), alpha, (light[..., None] - NEUTRAL) / NEUTRAL

    @property
    def _outline(self) -> int:
        return max(2, round(self._unit * 0.013))

    def _line(self, pixels: Sequence[float], colour: Colour, width: int) -> None:
        for draw, fill in ((self._colour, colour), (self._cover, 255)):
            draw.line(pixels, fill, width, joint="curve")
            for x, y in (pixels[:2], pixels[-2:]):
                r = width / 2 - 0.5
                draw.ellipse((x - r, y - r, x + r, y + r), fill)

    def _shade(self, pixels: Points, shading: str) -> None:
        left, top = np.floor(pixels.min(axis=0)).astype(int).tolist()
        right, bottom = np.ceil(pixels.max(axis=0)).astype(int).tolist()
        box = (max(right - left, 1), max(bottom - top, 1))
        mask = Image.new("1", box)
        ImageDraw.Draw(mask).polygon((pixels - (left, top)).ravel().tolist(), fill=1)
        self._images[2].paste(GRADIENTS[shading].resize(box, Image.Resampling.BILINEAR), (left, top), mask)
