"""Draws a scene. ``python -m tools.demo_model.drawing sheet.png`` shows every object, background and light."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from . import scenes
from .backgrounds import BACKGROUNDS
from .canvas import Canvas, Colour, Pixels
from .objects import FORMS, Form
from .scenes import Scene

PALETTE: dict[str, Colour] = {
    "red": (208, 36, 42),
    "orange": (246, 124, 18),
    "yellow": (252, 212, 40),
    "green": (28, 132, 66),
    "blue": (34, 84, 200),
    "purple": (116, 54, 170),
    "pink": (248, 140, 184),
    "black": (36, 36, 40),
    "white": (248, 248, 246),
    "grey": (134, 138, 144),
}


@dataclass(frozen=True)
class Light:
    """How a light shows: object scale, contrast of its shading, the shadow, and the grade of the whole picture."""

    scale: float
    contrast: float
    shadow: float
    reach: float
    gain: tuple[float, float, float]
    vignette: float = 0.0
    grain: float = 0.0


LIGHTS = {
    "studio lighting": Light(1.0, 1.0, 0.5, 0.12, (1.0, 1.0, 1.0)),
    "soft daylight": Light(1.0, 0.65, 0.34, 0.5, (1.05, 1.04, 1.0)),
    "minimal composition, soft shadow": Light(0.78, 0.72, 0.4, 0.2, (1.0, 1.0, 1.0)),
    "warm light, film grain": Light(1.0, 0.9, 0.5, 0.25, (1.05, 1.0, 0.88), 0.3, 5.0),
}


def draw(scene: Scene, rng: Random, size: int | tuple[int, int] = 128) -> Image.Image:
    """Draw the scene as an RGB picture; the same scene, state of ``rng`` and size give the same pixels.

    :param size: width and height in pixels, or one number for both.
    """
    width, height = (size, size) if isinstance(size, int) else size
    flat = scene.medium == "flat illustration"
    light, form = LIGHTS[scene.light], FORMS[scene.object]
    seed = rng.getrandbits(64)
    unit = min(width, height)
    scale = unit * light.scale * rng.uniform(0.95, 1.03)
    tilt = np.radians(rng.uniform(-2.5, 2.5))
    base_x = width / 2 + unit * rng.uniform(-0.025, 0.025)
    base_y = max(height / 2 + form.height * scale / 2, height * 0.7) + unit * rng.uniform(0.0, 0.03)

    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    canvas = Canvas((width, height), turn * scale * (1, -1), (base_x, base_y), flat)
    form.draw(canvas, PALETTE[scene.colour], rng)
    pixels = BACKGROUNDS[scene.background]((width, height), rng, flat)
    pixels = pixels * (1 - _shadow(form, light, flat, (width, height), (base_x, base_y), scale))

    colour, cover, shade = canvas.layers()
    if not flat:
        colour = _lit(colour, cover, shade * light.contrast)
    pixels = pixels * (1 - cover) + colour * cover
    pixels = _graded(pixels, light, np.random.default_rng(seed))
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return _flawed(image, scene.flaw)


def _shadow(
    form: Form, light: Light, flat: bool, size: tuple[int, int], base: tuple[float, float], scale: float
) -> Pixels:
    y, x = np.ogrid[0 : size[1], 0 : size[0]]
    middle, half = form.foot[0] * scale + base[0], form.foot[1] * scale
    down = (y - base[1]) / scale
    if flat:
        inside = ((x - middle) / (half * 1.1)) ** 2 + (down / 0.03) ** 2 < 1
        return (0.18 * inside[..., None]).astype(np.float32)
    contact = np.exp(-((((x - middle) / (half * 1.02)) ** 2) ** 2) - (down / 0.022) ** 2)
    reach = light.reach
    along = (x - middle) / scale - reach * 0.45
    soft = np.exp(
        -((along / (form.foot[1] * 1.05 + reach * 0.5)) ** 2) - ((down - 0.005) / (0.05 + reach * 0.06)) ** 2
    )
    return np.maximum(contact * min(1.0, light.shadow * 1.3), soft * light.shadow)[..., None].astype(
        np.float32
    )


def _lit(colour: Pixels, cover: Pixels, shade: Pixels) -> Pixels:
    """Darken towards a deeper shade of the same hue, brighten towards white; edges turn away from the light."""
    mask = Image.fromarray((cover[..., 0] * 255).astype(np.uint8))
    blurred = mask.filter(ImageFilter.BoxBlur(max(1, mask.width / 50)))
    edge = 1 - np.asarray(blurred, dtype=np.float32)[..., None] / 255
    shade = shade - 0.5 * edge
    deep = colour * (0.18 + 0.32 * colour / 255)
    dark, bright = np.clip(-shade, 0, 1), np.clip(shade, 0, 1) * 0.75
    return colour + (deep - colour) * dark + (255 - colour) * bright


def _graded(pixels: Pixels, light: Light, noise: np.random.Generator) -> Pixels:
    pixels = pixels * np.array(light.gain, dtype=np.float32)
    height, width = pixels.shape[:2]
    if light.vignette:
        y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        pixels = pixels * (1 - light.vignette * np.clip((x**2 + y**2) / 2, 0, 1) ** 1.5)[..., None].astype(
            np.float32
        )
    if light.grain:
        pixels = pixels + noise.standard_normal((height, width, 1), dtype=np.float32) * light.grain
    return pixels


def _flawed(image: Image.Image, flaw: str) -> Image.Image:
    width, height = image.size
    unit = min(image.size)
    if flaw == "blurry":
        return image.filter(ImageFilter.GaussianBlur(unit * 0.022))
    if flaw == "low quality":
        small = image.resize((width // 4, height // 4), Image.Resampling.BOX).quantize(24)
        return small.convert("RGB").resize(image.size, Image.Resampling.NEAREST)
    if flaw == "text":
        pen, font = ImageDraw.Draw(image), ImageFont.load_default(unit * 0.17)
        for text, y in (("SAMPLE", 0.16), ("PICTURE", 0.84)):
            pen.text(
                (width / 2, height * y),
                text,
                "white",
                font,
                "mm",
                stroke_width=unit // 64,
                stroke_fill=(40, 40, 40),
            )
    return image


def main() -> None:
    """Write a sheet: all objects in all colours, then all backgrounds under all lights in both media."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    rng = Random(0)
    rows = [
        [Scene(o, c, "on a white background", "studio lighting", "product photo") for c in scenes.COLOURS]
        for o in scenes.OBJECTS
    ]
    for medium in scenes.MEDIA:
        for light in scenes.LIGHTS:
            rows.append(
                [
                    Scene(rng.choice(scenes.OBJECTS), rng.choice(scenes.COLOURS), background, light, medium)
                    for background in (*scenes.BACKGROUNDS, *scenes.BACKGROUNDS[1:5])
                ]
            )
    rows.append([scenes.random_scene(rng) for _ in range(7)])
    rows[-1] += [
        Scene("mug", "red", scenes.BACKGROUNDS[0], scenes.LIGHTS[0], scenes.MEDIA[0], flaw)
        for flaw in scenes.FLAWS
    ]
    size = options.size
    sheet = Image.new("RGB", (size * 10, size * len(rows)))
    for y, row in enumerate(rows):
        for x, scene in enumerate(row):
            sheet.paste(draw(scene, rng, size), (x * size, y * size))
    sheet.save(options.output)


if __name__ == "__main__":
    main()
