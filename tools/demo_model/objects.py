"""How each object is drawn, in fractions of the picture: x from its middle, y up from its base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import numpy as np

from .canvas import Canvas, Colour, arc, curve, polygon, rounded, tone

WOOD: Colour = (150, 98, 56)
DARK_WOOD: Colour = (112, 70, 40)
CREAM: Colour = (250, 244, 226)
STEEL: Colour = (176, 182, 190)
BRASS: Colour = (190, 150, 80)
GLOW: Colour = (255, 240, 170)
LEAF: Colour = (86, 140, 74)
INK_GREY: Colour = (52, 52, 58)
TAN: Colour = (196, 140, 84)


LENS = curve((0.0, 0.0), (0.026, 0.035), (0.0, 0.085), (-0.026, 0.035))
"""A leaf that grows upwards from the origin."""


def hollow(colour: Colour) -> Colour:
    """Return the colour of an inside that the light does not reach."""
    r, g, b = (part * 11 // 20 for part in colour)
    return r, g, b


def mug(canvas: Canvas, colour: Colour, rng: Random) -> None:
    """A cylinder with a handle on its right."""
    canvas.stroke(
        curve((0.12, 0.47), (0.25, 0.48), (0.315, 0.33), (0.25, 0.17), (0.11, 0.14), closed=False),
        0.062, colour,
    )  # fmt: skip
    body = np.concatenate([arc(-0.08, 0.05, 0.225, 0.05, 180, 360), arc(-0.08, 0.56, 0.25, 0.055, 0, 180)])
    canvas.shape(body, colour, "pipe")
    canvas.shape(arc(-0.08, 0.56, 0.25, 0.055), tone(colour, 0.3), "plane")
    canvas.shape(arc(-0.08, 0.555, 0.22, 0.042), hollow(colour), "plane")


def chair(canvas: Canvas, colour: Colour, rng: Random) -> None:
    """A cushion and a back on four wooden legs."""
    for side in (-1, 1):
        canvas.stroke(polygon((side * 0.17, 0.3), (side * 0.175, 0.07)), 0.032, DARK_WOOD)
        canvas.stroke(polygon((side * 0.145, 0.3), (side * 0.15, 0.5)), 0.036, WOOD)
    for side in (-1, 1):
        canvas.stroke(polygon((side * 0.215, 0.26), (side * 0.235, 0.02)), 0.042, WOOD)
    canvas.shape(rounded(-0.225, 0.4, 0.225, 0.72, 0.06), colour, "plane")
    canvas.shape(rounded(-0.165, 0.46, 0.165, 0.66, 0.04), tone(colour, -0.1), None)
    canvas.shape(rounded(-0.27, 0.22, 0.27, 0.3, 0.035), tone(colour, -0.22), "plane")
    canvas.shape(
        curve((-0.2, 0.37), (0.0, 0.375), (0.2, 0.37), (0.265, 0.28), (0.0, 0.262), (-0.265, 0.28)),
        tone(colour, 0.08),
    )


def lamp(canvas: Canvas, colour: Colour, rng: Random) -> None:
    """A table lamp: a shade over a lit bulb on a brass stem."""
    canvas.stroke(polygon((0.0, 0.05), (0.0, 0.42)), 0.034, BRASS)
    foot = np.concatenate([arc(0, 0.035, 0.165, 0.04, 180, 360), arc(0, 0.065, 0.165, 0.045, 0, 180)])
    canvas.shape(foot, tone(colour, -0.12), "pipe")
    canvas.shape(arc(0, 0.065, 0.165, 0.043), colour, "plane")
    canvas.stroke(polygon((0.0, 0.07), (0.0, 0.1)), 0.034, BRASS)
    canvas.shape(arc(0, 0.365, 0.055, 0.055), GLOW, None)
    shade = np.concatenate([arc(0, 0.4, 0.285, 0.035, 180, 360), arc(0, 0.69, 0.15, 0.02, 0, 180)])
    canvas.shape(shade, colour, "pipe")


def backpack(canvas: Canvas, colour: Colour, rng: Random) -> None:
    """A rounded bag with a front pocket, a top loop and a strap on each side."""
    dark = tone(colour, -0.3)
    canvas.stroke(curve((-0.075, 0.6), (-0.06, 0.69), (0.06, 0.69), (0.075, 0.6), closed=False), 0.036, dark)
    for side in (-1, 1):
        strap = curve(
            (side * 0.2, 0.5), (side * 0.275, 0.36), (side * 0.265, 0.14), (side * 0.2, 0.05), closed=False
        )
        canvas.stroke(strap, 0.055, dark)
    body = curve(
        (-0.2, 0.0), (-0.235, 0.06), (-0.235, 0.4), (-0.17, 0.59), (0.0, 0.645), (0.17, 0.59), (0.235, 0.4),
        (0.235, 0.06), (0.2, 0.0), (0.0, -0.008),
    )  # fmt: skip
    canvas.shape(body, colour, "pipe")
    canvas.stroke(
        curve((-0.18, 0.36), (-0.12, 0.5), (0.12, 0.5), (0.18, 0.36), closed=False), 0.014, dark, shaded=False
    )
    canvas.shape(rounded(-0.175, 0.035, 0.175, 0.285, 0.055), tone(colour, -0.13), "plane")
    canvas.stroke(polygon((-0.15, 0.225), (0.15, 0.225)), 0.016, STEEL, shaded=False)
    canvas.shape(rounded(-0.045, 0.36, 0.045, 0.43, 0.015), TAN, None)


def teapot(canvas: Canvas, colour: Colour, rng: Random) -> None:
    """A round body, its spout on the left and its handle on the right."""
    handle = curve((0.15, 0.36), (0.29, 0.41), (0.365, 0.29), (0.3, 0.15), (0.17, 0.11), closed=False)
    canvas.stroke(handle, 0.052, colour)
    spout = curve(
        (-0.16, 0.12), (-0.27, 0.17), (-0.33, 0.31), (-0.405, 0.385), (-0.355, 0.415), (-0.27, 0.37), (-0.21, 0.3),
        (-0.14, 0.29),
    )  # fmt: skip
    canvas.shape(spout, tone(colour, -0.04), "plane")
    canvas.shape(rounded(-0.13, 0.0, 0.13, 0.06, 0.02), tone(colour, -0.25), "pipe")
    canvas.shape(arc(0, 0.235, 0.245, 0.215), colour, "ball")
    canvas.shape(arc(0, 0.498, 0.04, 0.04), tone(colour, -0.12), "ball")
    lid = np.concatenate([arc(0, 0.415, 0.135, 0.025, 180, 360), arc(0, 0.415, 0.135, 0.06, 0, 180)])
    canvas.shape(lid, tone(colour, 0.1), "pipe")


def sneaker(canvas: Canvas, colour: Colour, rng: Random) -> None:
    """A shoe seen from the side, its toe on the left, with a white sole and laces."""
    canvas.shape(
        curve((0.1, 0.36), (0.2, 0.39), (0.34, 0.4), (0.32, 0.3), (0.16, 0.28)), hollow(colour), "plane"
    )
    upper = curve(
        (-0.395, 0.06), (-0.405, 0.12), (-0.33, 0.185), (-0.19, 0.23), (-0.06, 0.325), (0.05, 0.415), (0.1, 0.405),
        (0.16, 0.33), (0.25, 0.305), (0.32, 0.34), (0.375, 0.415), (0.4, 0.38), (0.395, 0.2), (0.4, 0.06), (0.0, 0.05),
    )  # fmt: skip
    canvas.shape(upper, colour, "dome")
    canvas.shape(
        curve((-0.4, 0.08), (-0.4, 0.12), (-0.33, 0.18), (-0.26, 0.2), (-0.23, 0.12), (-0.25, 0.06)),
        tone(colour, -0.16),
        None,
    )
    canvas.shape(polygon((0.02, 0.09), (0.075, 0.09), (0.15, 0.26), (0.1, 0.28)), tone(colour, 0.55), None)
    canvas.shape(polygon((0.12, 0.09), (0.175, 0.09), (0.235, 0.25), (0.19, 0.27)), tone(colour, 0.55), None)
    for step in range(4):
        x, y = -0.155 + 0.055 * step, 0.225 + 0.042 * step
        canvas.stroke(polygon((x, y + 0.012), (x + 0.075, y - 0.045)), 0.02, CREAM, shaded=False)
    canvas.shape(rounded(-0.425, 0.0, 0.415, 0.085, 0.038), (246, 245, 240), "plane")
    canvas.stroke(polygon((-0.4, 0.035), (0.395, 0.035)), 0.012, (196, 194, 190), shaded=False)


def clock(canvas: Canvas, colour: Colour, rng: Random) -> None:
    """A round clock on two feet: a thick rim around a pale face."""
    for side in (-1, 1):
        canvas.stroke(polygon((side * 0.16, 0.12), (side * 0.215, 0.02)), 0.05, tone(colour, -0.3))
    canvas.shape(arc(0, 0.355, 0.32, 0.32), colour, "ball")
    canvas.shape(arc(0, 0.355, 0.222, 0.222), CREAM, "plane")
    for hour in range(12):
        angle = np.radians(hour * 30)
        way, inner = np.array([np.sin(angle), np.cos(angle)]), 0.16 if hour % 3 == 0 else 0.18
        canvas.stroke(
            np.stack([way * inner, way * 0.2]) + np.array([0, 0.355]), 0.016, INK_GREY, shaded=False
        )
    minutes = rng.randrange(0, 60, 5)
    hours = rng.randrange(12) + minutes / 60
    for angle, length, width in ((hours * 30, 0.105, 0.028), (minutes * 6, 0.165, 0.02)):
        tip = (length * np.sin(np.radians(angle)), 0.355 + length * np.cos(np.radians(angle)))
        canvas.stroke(polygon((0.0, 0.355), tip), width, INK_GREY, shaded=False)
    canvas.shape(arc(0, 0.355, 0.022, 0.022), INK_GREY, None)


def umbrella(canvas: Canvas, colour: Colour, rng: Random) -> None:
    """An open umbrella in five panels, upright on its wooden crook."""
    shaft = curve(
        (0.0, 0.45), (0.0, 0.25), (0.0, 0.08), (0.03, 0.022), (0.09, 0.03), (0.105, 0.09), closed=False
    )
    canvas.stroke(shaft, 0.03, WOOD)
    canvas.stroke(polygon((0.0, 0.69), (0.0, 0.735)), 0.022, WOOD)
    ribs = 0.41 * np.sin(np.radians(np.linspace(-90, 90, 6)))
    scallops = [
        np.stack([np.linspace(b, a, 12), 0.4 + 0.035 * np.sin(np.linspace(0, np.pi, 12))], axis=1)
        for a, b in pairwise(ribs)
    ]
    dome = arc(0, 0.4, 0.41, 0.3, 180, 0)
    canvas.shape(np.concatenate([dome, *scallops[::-1]]), colour, "dome")
    down = np.linspace(0, np.pi / 2, 16)
    for panel, scallop in enumerate(scallops):
        left, right = (
            np.stack([ribs[panel + side] * np.sin(down), 0.4 + 0.3 * np.cos(down)], axis=1) for side in (0, 1)
        )
        if panel % 2:
            canvas.shape(np.concatenate([right, scallop, left[::-1]]), tone(colour, -0.17), None)
        if panel:
            canvas.stroke(left, 0.009, tone(colour, -0.35), shaded=False)


def bottle(canvas: Canvas, colour: Colour, rng: Random) -> None:
    """A water bottle with a steel cap and a pale mark."""
    body = curve(
        (-0.115, 0.0), (-0.14, 0.03), (-0.14, 0.25), (-0.14, 0.42), (-0.12, 0.49), (-0.075, 0.535), (-0.07, 0.6),
        (0.07, 0.6), (0.075, 0.535), (0.12, 0.49), (0.14, 0.42), (0.14, 0.25), (0.14, 0.03), (0.115, 0.0), (0.0, -0.01),
    )  # fmt: skip
    loop = curve((-0.05, 0.67), (-0.045, 0.715), (0.045, 0.715), (0.05, 0.67), closed=False)
    canvas.stroke(loop, 0.024, STEEL)
    canvas.shape(body, colour, "pipe")
    canvas.shape(rounded(-0.085, 0.57, 0.085, 0.675, 0.015), STEEL, "pipe")
    canvas.stroke(polygon((-0.12, 0.42), (0.12, 0.42)), 0.014, tone(colour, -0.3), shaded=False)
    drop = curve((0.0, 0.32), (0.045, 0.24), (0.035, 0.19), (0.0, 0.175), (-0.035, 0.19), (-0.045, 0.24))
    canvas.shape(drop, tone(colour, -0.2 if min(colour) > 200 else 0.6), None)


def hat(canvas: Canvas, colour: Colour, rng: Random) -> None:
    """A wide brim, a dented crown and a darker band."""
    canvas.shape(arc(0, 0.11, 0.43, 0.11), colour, "plane")
    canvas.shape(arc(0, 0.125, 0.3, 0.065), tone(colour, -0.28), None)
    crown = curve(
        (-0.235, 0.11), (-0.225, 0.25), (-0.18, 0.39), (-0.09, 0.43), (0.0, 0.405), (0.09, 0.43), (0.18, 0.39),
        (0.225, 0.25), (0.235, 0.11), (0.12, 0.078), (0.0, 0.068), (-0.12, 0.078),
    )  # fmt: skip
    canvas.shape(crown, colour, "pipe")
    band = np.concatenate([arc(0, 0.115, 0.236, 0.047, 180, 360), arc(0, 0.205, 0.23, 0.047, 360, 180)])
    canvas.shape(band, tone(colour, -0.5), None)


def vase(canvas: Canvas, colour: Colour, rng: Random) -> None:
    """A round vase with a narrow neck that holds three leafy stems."""
    for lean, height in ((-0.14, 0.64), (0.14, 0.65), (0.0, 0.69)):
        stem = curve((lean * 0.2, 0.42), (lean * 0.45, 0.53), (lean, height), closed=False)
        canvas.stroke(stem, 0.014, LEAF, shaded=False)
        for share, turn in ((0.45, 1.0), (0.55, -1.0), (0.8, 0.9), (0.85, -0.9), (1.0, 0.0)):
            x, y = stem[round(share * (len(stem) - 1))]
            angle = turn - lean * 2.5
            way = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            canvas.shape(LENS @ way.T + (x, y), tone(LEAF, 0.2 * share - 0.1), "plane")
    body = curve(
        (-0.1, 0.0), (-0.13, 0.05), (-0.205, 0.2), (-0.17, 0.32), (-0.085, 0.39), (-0.075, 0.43), (-0.105, 0.47),
        (0.105, 0.47), (0.075, 0.43), (0.085, 0.39), (0.17, 0.32), (0.205, 0.2), (0.13, 0.05), (0.1, 0.0), (0.0, -0.008),
    )  # fmt: skip
    canvas.shape(body, colour, "pipe")
    canvas.shape(arc(0, 0.47, 0.108, 0.018), hollow(colour), "plane")


def book(canvas: Canvas, colour: Colour, rng: Random) -> None:
    """A hardback that stands a little turned: its spine on the left, cream pages above."""
    pages = polygon((-0.25, 0.6), (-0.165, 0.575), (0.245, 0.6), (0.165, 0.63))
    canvas.shape(pages, CREAM, "plane")
    for share in (0.35, 0.65):
        start, end = pages[0] + share * (pages[1] - pages[0]), pages[3] + share * (pages[2] - pages[3])
        canvas.stroke(np.stack([start, end]), 0.006, TAN, shaded=False)
    spine = polygon((-0.26, 0.06), (-0.17, 0.0), (-0.17, 0.585), (-0.26, 0.615))
    canvas.shape(spine, tone(colour, -0.3), "plane")
    canvas.shape(polygon((-0.17, 0.0), (0.25, 0.035), (0.25, 0.61), (-0.17, 0.585)), colour, "plane")
    canvas.stroke(polygon((-0.135, 0.01), (-0.135, 0.58)), 0.012, tone(colour, -0.25), shaded=False)
    print_colour = tone(colour, -0.35) if min(colour) > 200 else CREAM
    for y, width in ((0.46, 0.13), (0.4, 0.09)):
        canvas.stroke(
            polygon((0.055 - width, y), (0.055 + width, y + 0.013)), 0.026, print_colour, shaded=False
        )
    canvas.stroke(polygon((-0.03, 0.12), (0.14, 0.13)), 0.014, print_colour, shaded=False)


@dataclass(frozen=True)
class Form:
    """How an object is drawn, how tall it is and where it touches the ground: middle and half width."""

    draw: Callable[[Canvas, Colour, Random], None]
    height: float
    foot: tuple[float, float]


FORMS = {
    "mug": Form(mug, 0.62, (-0.06, 0.25)),
    "chair": Form(chair, 0.72, (0.0, 0.27)),
    "lamp": Form(lamp, 0.71, (0.0, 0.17)),
    "backpack": Form(backpack, 0.7, (0.0, 0.24)),
    "teapot": Form(teapot, 0.54, (0.0, 0.19)),
    "sneaker": Form(sneaker, 0.42, (0.0, 0.42)),
    "clock": Form(clock, 0.68, (0.0, 0.24)),
    "umbrella": Form(umbrella, 0.74, (0.04, 0.11)),
    "bottle": Form(bottle, 0.73, (0.0, 0.145)),
    "hat": Form(hat, 0.43, (0.0, 0.42)),
    "vase": Form(vase, 0.74, (0.0, 0.12)),
    "book": Form(book, 0.63, (0.0, 0.25)),
}
