from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from promptmill.driver.report import save_thumbnail

SHA = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("size", "expected"), [((1264, 848), (256, 172)), ((400, 1600), (64, 256)), ((64, 48), (64, 48))]
)
def test_the_longest_side_is_256_or_as_small_as_the_image(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = Image.new("RGB", size, "teal")

    name = save_thumbnail(image, tmp_path, SHA)

    assert name == "thumbnails/01/0123456789abcdef0123.jpg"
    with Image.open(tmp_path / name) as small:
        assert (small.format, small.size) == ("JPEG", expected)
    assert image.size == size


def transparent_palette() -> Image.Image:
    image = Image.new("P", (300, 300), 0)
    image.putpalette([200, 30, 30])
    image.info["transparency"] = 0
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGB", (300, 300), (200, 30, 30)), (200, 30, 30)),
        (Image.new("RGBA", (300, 300), (200, 30, 30, 255)), (200, 30, 30)),
        (Image.new("RGBA", (300, 300), (0, 0, 0, 0)), (255, 255, 255)),
        (Image.new("LA", (300, 300), (0, 0)), (255, 255, 255)),
        (transparent_palette(), (255, 255, 255)),
        (Image.new("L", (300, 300), 90), (90, 90, 90)),
        (Image.new("I;16", (300, 300), 128 * 256), (128, 128, 128)),
        (Image.new("I", (300, 300), 128 * 256), (128, 128, 128)),
        (Image.new("CMYK", (300, 300), (0, 255, 255, 0)), (255, 0, 0)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_every_mode_becomes_a_picture_that_looks_the_same(
    tmp_path: Path, image: Image.Image, expected: tuple[int, ...]
) -> None:
    with Image.open(tmp_path / save_thumbnail(image, tmp_path, SHA)) as small:
        found = small.convert("RGB").getpixel((100, 100))

    assert isinstance(found, tuple)
    assert found == pytest.approx(expected, abs=3)


def test_many_threads_with_equal_images_leave_one_whole_file_each(tmp_path: Path) -> None:
    image = Image.new("RGB", (512, 512), "olive")
    hashes = [f"{i % 5}" * 64 for i in range(40)]

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda sha: save_thumbnail(image, tmp_path, sha), hashes))

    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == sorted(set(names))
    for name in files:
        with Image.open(tmp_path / name) as small:
            small.load()
