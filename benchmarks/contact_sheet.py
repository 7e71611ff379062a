"""How fast the contact sheet opens and filters in headless Chromium, and how that grows with its images.

    python benchmarks/contact_sheet.py [--images 1000 10000]

``ready`` is the navigation's end of parsing and scripts, ``painted`` the moment when every picture in the
window is decoded and a frame with it was shown, ``filter`` one text search with its redraw; milliseconds, the
median of five fresh pages, taken in turn from all sizes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from promptmill.driver.report import Entry, save_thumbnail, write_contact_sheet

COLOURS = ("red", "teal", "mustard", "ivory", "navy", "olive", "plum", "slate", "orange", "black")
OBJECTS = ("mug", "chair", "lamp", "backpack", "teapot", "sneaker", "clock", "umbrella", "bottle", "hat")
PAINTED = """async () => {
  while ([...document.images].some((image) =>
    image.getBoundingClientRect().top < innerHeight && !image.complete)) await new Promise(requestAnimationFrame);
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now();
}"""
FILTERED = """async () => {
  const started = performance.now();
  document.getElementById("words").value = "teapot";
  select();
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - started;
}"""


def entries(out: Path, images: int) -> Iterator[Entry]:
    for i in range(images):
        sha = hashlib.sha256(str(i).encode()).hexdigest()
        colour, thing = COLOURS[i % 10], OBJECTS[i // 10 % 10]
        failed = i % 50 == 49
        picture = Image.new("RGB", (64, 64), (i % 256, i // 256, 128))
        yield Entry(
            id=f"{thing}-{i:05}", row=i + 1, variant=1, index=1, file="" if failed else f"{thing}/{i:05}.png",
            sha256="" if failed else sha, negative="blurry, watermark", seed=i * 900_719_925_474,
            prompt=f"a product photo of a {colour} {thing}, number {i}, on a white background, studio lighting, soft shadow",
            width=1264, height=848, server=f"http://10.0.0.{i % 4}:8188", seconds=1 + i % 7 / 10, attempts=1,
            status="failed" if failed else "done", error="CUDA error: out of memory" if failed else "",
            thumbnail="" if failed else save_thumbnail(picture, out, sha),
        )  # fmt: skip


def measure(browser: Browser, page_file: Path) -> tuple[float, float, float]:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(page_file.as_uri(), wait_until="domcontentloaded")
    painted: Any = page.evaluate(PAINTED)
    ready: Any = page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    filtered: Any = page.evaluate(FILTERED)
    page.close()
    return ready, painted, filtered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000])
    sizes = parser.parse_args().images
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        outs = {size: Path(folder) / str(size) for size in sizes}
        for size, out in outs.items():
            write_contact_sheet(out, f"{size} images", entries(out, size), {"Servers": 4})
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        times: dict[int, list[tuple[float, float, float]]] = {size: [] for size in sizes}
        for _ in range(5):
            for size in sizes:
                times[size].append(measure(browser, outs[size] / "index.html"))
        browser.close()
        medians = {
            size: [statistics.median(column) for column in zip(*times[size], strict=True)] for size in sizes
        }
        print(f"{'images':>8} {'ready ms':>9} {'painted ms':>11} {'filter ms':>10} {'index.html':>11}")
        for size in sizes:
            ready, painted, filtered = medians[size]
            megabytes = (outs[size] / "index.html").stat().st_size / 1e6
            print(f"{size:8} {ready:9.0f} {painted:11.0f} {filtered:10.0f} {megabytes:8.2f} MB")
        ratios = [large / small for small, large in zip(medians[sizes[0]], medians[sizes[-1]], strict=True)]
        print(f"{sizes[-1] / sizes[0]:7.0f}x {ratios[0]:8.1f}x {ratios[1]:10.1f}x {ratios[2]:9.1f}x")


if __name__ == "__main__":
    main()
