"""What counts as a good image, and how it gets into its place."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from promptmill import files
from promptmill.driver import images
from promptmill.driver.images import ImageRefused


def noise(size: tuple[int, int] = (64, 48), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def flat(colour: str, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (64, 48), colour).save(buffer, "PNG")
    return buffer.getvalue()


def judge(data: bytes, size: tuple[int, int] | None = None, *, allow_blank: bool = False) -> Image.Image:
    return images.decode(data, expected_size=size, allow_blank=allow_blank)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_whole_image_is_accepted(kind: str) -> None:
    assert judge(noise(kind=kind), (64, 48)).size == (64, 48)


@pytest.mark.parametrize("missing", [1, 12, 20, 500, 3000])
def test_a_png_cut_anywhere_is_refused(missing: int) -> None:
    with pytest.raises(ImageRefused):
        judge(noise()[:-missing])


@pytest.mark.parametrize("data", [b"", b"<html>no</html>", b"\x89PNG\r\n\x1a\n", b"\x00" * 5000])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(ImageRefused):
        judge(data)


def test_another_size_is_refused_and_both_sizes_are_named() -> None:
    with pytest.raises(ImageRefused, match="128x128") as caught:
        judge(noise(), (128, 128))
    assert "64x48" in str(caught.value)


@pytest.mark.parametrize("colour", ["black", "white", "#336699"])
def test_one_colour_everywhere_is_blank_unless_it_is_wanted(colour: str) -> None:
    with pytest.raises(ImageRefused, match="blank"):
        judge(flat(colour))
    assert judge(flat(colour), allow_blank=True).size == (64, 48)


def test_a_single_other_pixel_is_not_blank() -> None:
    image = Image.new("RGB", (64, 48))
    image.putpixel((3, 3), (1, 0, 0))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")

    judge(buffer.getvalue())


def test_a_staged_file_is_not_in_its_place_until_it_is_put_there(tmp_path: Path) -> None:
    part = files.stage(tmp_path / "a" / "b.png", b"data")

    assert not (tmp_path / "a" / "b.png").exists()
    files.put_in_place(part, tmp_path / "a" / "b.png")
    assert (tmp_path / "a" / "b.png").read_bytes() == b"data"
    assert not part.exists()


def test_what_is_set_aside_twice_is_kept_twice(tmp_path: Path) -> None:
    for text in (b"one", b"two"):
        (tmp_path / "a.png").write_bytes(text)
        files.set_aside(tmp_path, "a.png")

    assert (tmp_path / "superseded" / "a.png").read_bytes() == b"one"
    assert (tmp_path / "superseded" / "a_2.png").read_bytes() == b"two"


def test_a_file_is_known_by_the_prefix_it_was_saved_under(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(noise() + b'{"filename_prefix": "promptmill/x/y"}')

    assert images.made_by(path, "promptmill/x/y")
    assert not images.made_by(path, "promptmill/x/z")
    assert not images.made_by(tmp_path / "b.png", "promptmill/x/y")
