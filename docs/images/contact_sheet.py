"""Makes contact-sheet.png: examples/products.csv on FakeComfy, whose pictures are drawn here.

python docs/images/contact_sheet.py (needs Chromium: CHROMIUM, or /usr/bin/chromium)
"""

from __future__ import annotations

import os
import random
import re
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFilter, ImageOps
from playwright.sync_api import sync_playwright

from promptmill.driver import Request, run
from promptmill.driver.testing import FakeComfy
from promptmill.driver.testing.validation import Graph

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SIDE = 1024
COLORS = {
    "red": "#c8352d", "yellow": "#e9b83a", "pink": "#e79aa9", "grey": "#8a8f96", "green": "#4f8a5b",
    "white": "#efece6", "purple": "#7a58a0", "blue": "#3f6fb0", "black": "#33353a", "orange": "#e07b34",
}  # fmt: skip
PROMPT = re.compile(r"photo of an? (\w+) (\w+) (?:on|in) an? (white|bright|pale|old)")
Box = tuple[float, float, float, float]


def paint(graph: Graph, width: int, height: int, _index: int) -> Image.Image:
    """Draw the product that the positive prompt names; the seed moves the light and the product a little."""
    found = next(
        match for node in graph.values() if (match := PROMPT.search(str(node["inputs"].get("text", ""))))
    )
    color, product, style = found.groups()
    seed = next(node["inputs"]["seed"] for node in graph.values() if "seed" in node["inputs"])
    chance = random.Random(seed)
    picture = scene(style, chance)
    shadow = Image.new("L", picture.size)
    ImageDraw.Draw(shadow).ellipse((230, 770, 800, 860), fill=110)
    picture.paste("#1d1712", mask=shadow.filter(ImageFilter.GaussianBlur(28)))
    layer = Image.new("RGBA", picture.size)
    SHAPES[product](layer, COLORS[color])
    if chance.random() < 0.5:
        layer = ImageOps.mirror(layer)
    spot = (chance.randint(-50, 50), chance.randint(-12, 12))
    picture.paste(layer, spot, layer)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def scene(style: str, chance: random.Random) -> Image.Image:
    """The place: a white sweep, a bright room, a pale surface or an old table."""
    wall, floor, edge = {
        "white": (("#ffffff", "#ececea"), ("#f4f4f2", "#dcdcd8"), 720),
        "bright": (("#f3e9d8", "#e6d6bd"), ("#c49a6c", "#a67c52"), 700),
        "pale": (("#dfe1e2", "#cfd2d4"), ("#c3c7ca", "#b3b8bb"), 640),
        "old": (("#57483c", "#3c3029"), ("#8a5a36", "#5c3a22"), 600),
    }[style]
    picture = Image.new("RGB", (SIDE, SIDE))
    picture.paste(gradient(*wall, (SIDE, edge)), (0, 0))
    picture.paste(gradient(*floor, (SIDE, SIDE - edge)), (0, edge))
    light = Image.new("L", picture.size)
    draw = ImageDraw.Draw(light)
    x = chance.randint(60, 420)
    if style == "bright":
        for pane in (0, 210):
            draw.polygon(
                [(x + pane, 90), (x + pane + 180, 60), (x + pane + 260, 560), (x + pane + 80, 590)], 120
            )
    else:
        draw.ellipse((x, 60, x + 520, 580), fill=90)
    picture.paste("#fff6e2", mask=light.filter(ImageFilter.GaussianBlur(6 if style == "bright" else 120)))
    if style == "old":
        planks = ImageDraw.Draw(picture)
        for y in (680, 775, 890):
            planks.line((0, y, SIDE, y), fill="#432a18", width=5)
    return picture.filter(ImageFilter.GaussianBlur(4))


def gradient(top: str, bottom: str, size: tuple[int, int]) -> Image.Image:
    """From one color down to another."""
    return ImageOps.colorize(Image.linear_gradient("L"), top, bottom).resize(size)


def solid(layer: Image.Image, color: str, outline: Any, *, kind: str = "polygon", **how: Any) -> None:
    """A shape shaded from light on its left to dark on its right."""
    mask = Image.new("L", layer.size)
    getattr(ImageDraw.Draw(mask), kind)(outline, fill=255, **how)
    left, _, right, _ = mask.getbbox() or (0, 0, 1, 1)
    base = Image.new("RGB", (1, 1), color)
    light, dark = (Image.blend(base, Image.new("RGB", (1, 1), end), 0.35) for end in ("#ffffff", "#1a1414"))
    ends = ["#{:02x}{:02x}{:02x}".format(*image.getpixel((0, 0))) for image in (light, dark)]
    shade = gradient(ends[0], ends[1], (SIDE, right - left)).rotate(90, expand=True)
    layer.paste(shade, (left, 0), mask.crop((left, 0, right, SIDE)))


def block(layer: Image.Image, color: str, box: Box, radius: float) -> None:
    """A rectangle with round corners."""
    solid(layer, color, box, kind="rounded_rectangle", radius=radius)


def oval(layer: Image.Image, color: str, box: Box) -> None:
    """An ellipse."""
    solid(layer, color, box, kind="ellipse")


def ring(layer: Image.Image, color: str, box: Box, width: int, start: int = 0, end: int = 360) -> None:
    """A part of a ring."""
    solid(layer, color, box, kind="arc", start=start, end=end, width=width)


def mug(layer: Image.Image, color: str) -> None:
    """A mug with its handle on the right."""
    ring(layer, color, (600, 450, 800, 700), 42)
    block(layer, color, (320, 380, 680, 820), 60)
    oval(layer, color, (320, 340, 680, 430))
    oval(layer, "#3a2a22", (345, 355, 655, 418))


def chair(layer: Image.Image, color: str) -> None:
    """A shell chair."""
    for foot, top in ((330, 400), (690, 620), (440, 460), (600, 560)):
        solid(layer, "#9a6f45", (foot, 830, top, 560), kind="line", width=24)
    block(layer, color, (340, 220, 680, 600), 110)
    block(layer, color, (310, 530, 710, 640), 54)


def lamp(layer: Image.Image, color: str) -> None:
    """A table lamp."""
    block(layer, "#b08d57", (495, 480, 529, 800), 10)
    oval(layer, "#b08d57", (390, 770, 634, 840))
    solid(layer, color, [(400, 230), (624, 230), (740, 540), (284, 540)])
    oval(layer, "#fff0c4", (284, 515, 740, 565))


def backpack(layer: Image.Image, color: str) -> None:
    """A backpack from the front."""
    ring(layer, color, (440, 190, 584, 330), 26, 180, 360)
    block(layer, color, (310, 250, 714, 830), 130)
    block(layer, color, (360, 560, 664, 790), 50)
    block(layer, "#2a2522", (390, 600, 634, 612), 6)
    block(layer, "#2a2522", (345, 440, 679, 452), 6)


def teapot(layer: Image.Image, color: str) -> None:
    """A round teapot."""
    ring(layer, color, (600, 440, 830, 720), 38, 260, 100)
    solid(layer, color, [(400, 620), (200, 450), (250, 420), (420, 500)])
    oval(layer, color, (300, 400, 720, 830))
    oval(layer, color, (400, 370, 620, 440))
    oval(layer, color, (480, 320, 540, 385))


def sneaker(layer: Image.Image, color: str) -> None:
    """A low shoe."""
    solid(layer, color, [(230, 770), (240, 520), (400, 500), (560, 640), (780, 690), (800, 770)])
    block(layer, "#f6f3ec", (215, 755, 815, 825), 32)
    for x in (430, 485, 540):
        solid(
            layer, "#f6f3ec", (x, 600 + (x - 430) // 3, x + 60, 545 + (x - 430) // 2), kind="line", width=14
        )


def clock(layer: Image.Image, color: str) -> None:
    """A clock that stands on its edge."""
    oval(layer, color, (270, 320, 770, 820))
    oval(layer, "#fbf9f4", (320, 370, 720, 770))
    solid(layer, "#2a2522", (520, 570, 520, 420), kind="line", width=18)
    solid(layer, "#2a2522", (520, 570, 620, 630), kind="line", width=18)


def umbrella(layer: Image.Image, color: str) -> None:
    """An open umbrella."""
    block(layer, "#8a6844", (503, 300, 521, 790), 8)
    ring(layer, "#8a6844", (420, 740, 521, 840), 18, 0, 180)
    solid(layer, color, (180, 210, 844, 870), kind="pieslice", start=180, end=360)
    for x in (180, 346, 512, 678):
        ImageDraw.Draw(layer).ellipse((x, 505, x + 166, 575), fill=(0, 0, 0, 0))


def bottle(layer: Image.Image, color: str) -> None:
    """A water bottle."""
    block(layer, "#c9ccd0", (456, 210, 568, 310), 20)
    block(layer, color, (400, 290, 624, 830), 80)
    block(layer, "#d9dcdf", (400, 560, 624, 640), 0)


def hat(layer: Image.Image, color: str) -> None:
    """A hat with a brim."""
    oval(layer, color, (200, 680, 824, 820))
    block(layer, color, (340, 440, 684, 760), 130)
    block(layer, "#2a2522", (340, 660, 684, 710), 8)


SHAPES = {
    shape.__name__: shape
    for shape in (mug, chair, lamp, backpack, teapot, sneaker, clock, umbrella, bottle, hat)
}


def main() -> None:
    """Run the table, photograph the page."""
    with tempfile.TemporaryDirectory() as folder, FakeComfy(image=paint) as fake:
        fake.on_prompt("green teapot").fail("torch.OutOfMemoryError", "Allocation on device")
        request = Request(
            ROOT / "examples" / "products.csv",
            ROOT / "workflows" / "text_to_image.json",
            (fake.url,),
            name="{style}/{sku}_v{variant}.png",
            variants=2,
            bindings={"CheckpointLoaderSimple.ckpt_name": "model_a.safetensors"},
        )
        result = run(request, out=Path(folder, "products"))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1440, "height": 910})
            page.goto((result.out / "index.html").resolve().as_uri(), wait_until="networkidle")
            shot = Path(folder, "page.png")
            page.screenshot(path=shot)
            browser.close()
        picture = Image.open(shot).convert("RGB")
        palette = picture.quantize(256, kmeans=4)
        picture.quantize(palette=palette).save(HERE / "contact-sheet.png", optimize=True)


if __name__ == "__main__":
    main()
