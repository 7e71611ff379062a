"""Each node does to its inputs what ComfyUI's does."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import requests
import torch
from PIL import Image

from promptmill.driver.engine.nodes import NODES, images, latents
from promptmill.driver.engine.server.engine import SAMPLERS, SCHEDULERS
from promptmill.driver.protocol import catalogue


def test_every_node_class_has_a_function_and_the_other_way_round():
    assert set(NODES) == set(catalogue.object_info((), SAMPLERS, SCHEDULERS))


@pytest.fixture
def run(engine, client):
    """Run one node and save what it makes; gives pixels of its pictures."""

    def execute(class_type, inputs, more=None):
        graph = {"1": {"class_type": class_type, "inputs": inputs}, **(more or {})}
        graph["9"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}
        found = client.run(graph)["outputs"]["9"]["images"]
        replies = [requests.get(f"{engine.url}/view", params=image).content for image in found]
        return [Image.open(io.BytesIO(reply)) for reply in replies]

    return execute


def test_the_sampler_gets_its_settings_and_the_shift(client, loader, graph):
    shifted = graph(seed=2**64 - 1, cfg=4.5, sampler_name="dpmpp_2m", scheduler="beta", denoise=0.5)
    shifted["8"] = {"class_type": "ModelSamplingSD3", "inputs": {"model": ["1", 0], "shift": 2.5}}
    shifted["5"]["inputs"]["model"] = ["8", 0]
    client.run(shifted)
    settings, shift = loader.model.sampled[0]
    assert (settings.seed, settings.cfg, settings.sampler, settings.scheduler, settings.denoise, shift) == (
        *(2**64 - 1, 4.5, "dpmpp_2m", "beta", 0.5, 2.5),
    )


def test_a_latent_that_is_not_denoised_stays_as_it_is(engine, client, loader, graph):
    client.run(graph(denoise=0.0))
    assert loader.model.sampled == []


def test_picture_to_picture_starts_from_the_picture(run, loader, tmp_path):
    Image.new("RGB", (64, 48), (200, 100, 50)).save(tmp_path / "engine/input/in.png")
    load = {"class_type": "LoadImage", "inputs": {"image": "in.png"}}
    checkpoint = {
        "class_type": "CheckpointLoaderSimple",
        "inputs": {"ckpt_name": "promptmill-demo.safetensors"},
    }
    encode = {"class_type": "VAEEncode", "inputs": {"pixels": ["2", 0], "vae": ["3", 2]}}
    for decode, tiles in [
        ("VAEDecode", {}),
        ("VAEDecodeTiled", {"tile_size": 64, "overlap": 32, "temporal_size": 64, "temporal_overlap": 8}),
    ]:
        made = run(
            decode,
            {"samples": ["4", 0], "vae": ["3", 2], **tiles},
            {"2": load, "3": checkpoint, "4": encode},
        )
        assert made[0].size == (64, 48)
        assert np.abs(np.asarray(made[0]).astype(int) - (200, 100, 50)).max() <= 1


@pytest.mark.parametrize(("width", "height", "overlap"), [(40, 24, 0), (8, 8, 64), (31, 9, 16), (16, 8, 32)])
def test_tiles_are_put_together_without_a_seam(width, height, overlap):
    class Doubling:
        def decode(self, latent):
            return latent[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3).movedim(1, -1)

    latent = torch.rand(2, 16, height, width)
    sizes = {"tile_size": 64, "overlap": overlap, "temporal_size": 64, "temporal_overlap": 8}
    (made,) = latents.decode_tiled(None, samples={"samples": latent}, vae=Doubling(), **sizes)
    torch.testing.assert_close(made, Doubling().decode(latent))


def test_a_picture_is_turned_as_exif_says(run, tmp_path):
    picture = Image.new("RGB", (32, 16), "white")
    picture.paste("black", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    picture.save(tmp_path / "engine/input/turned.jpg", exif=exif, quality=100)
    (made,) = run("LoadImage", {"image": "turned.jpg"})
    assert made.size == (16, 32)
    assert made.getpixel((8, 2)) < (20, 20, 20)
    assert made.getpixel((8, 30)) > (235, 235, 235)


class Files:
    def __init__(self, folder):
        self.input_file = folder.__truediv__


@pytest.mark.parametrize(
    ("mode", "color", "pixel", "mask"),
    [
        ("RGBA", (255, 0, 0, 64), (1, 0, 0), 1 - 64 / 255),
        ("RGB", (0, 255, 0), (0, 1, 0), None),
        ("L", 51, (0.2, 0.2, 0.2), None),
        ("LA", (51, 0), (0.2, 0.2, 0.2), 1.0),
        ("I;16", 51 * 257, (0.2, 0.2, 0.2), None),
        ("1", 1, (1, 1, 1), None),
        ("CMYK", (0, 255, 255, 0), (1, 0, 0), None),
    ],
)
def test_every_mode_becomes_a_picture_and_a_mask(tmp_path, mode, color, pixel, mask):
    name = "x.tiff" if mode == "CMYK" else "x.png"
    Image.new(mode, (24, 16), color).save(tmp_path / name)
    picture, found = images.load(Files(tmp_path), image=name)
    assert picture.shape == (1, 16, 24, 3)
    torch.testing.assert_close(picture[0, 3, 5], torch.tensor(pixel, dtype=torch.float32), atol=2e-3, rtol=0)
    assert found.shape == ((1, 64, 64) if mask is None else (1, 16, 24))
    torch.testing.assert_close(found, torch.full_like(found, mask or 0.0))


def test_an_animation_is_a_batch(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime")]
    frames[0].save(tmp_path / "x.webp", save_all=True, append_images=frames[1:], lossless=True)
    picture, mask = images.load(Files(tmp_path), image="x.webp")
    assert picture[:, 0, 0].tolist() == [[1, 0, 0], [0, 1, 0]]
    assert len(mask) == 2


@pytest.mark.parametrize(
    ("width", "height", "crop", "shape"),
    [
        (10, 20, "disabled", (20, 10)),
        (0, 8, "disabled", (8, 16)),
        (8, 0, "center", (4, 8)),
        (0, 0, "center", (32, 64)),
    ],
)
@pytest.mark.parametrize("method", catalogue.UPSCALE_METHODS)
def test_sizes(method, width, height, crop, shape):
    (made,) = images.scale(
        None, image=torch.rand(2, 32, 64, 3), upscale_method=method, width=width, height=height, crop=crop
    )
    assert made.shape == (2, *shape, 3)


def test_a_center_crop_keeps_the_middle_and_the_proportions():
    image = torch.zeros(1, 32, 64, 3)
    image[:, :, 16:48] = 1
    (made,) = images.scale(None, image=image, upscale_method="area", width=8, height=8, crop="center")
    assert made.min() == 1


def test_total_pixels(run, tmp_path):
    (made,) = images.scale_to_total_pixels(
        None, image=torch.rand(1, 100, 200, 3), upscale_method="area", megapixels=0.01, resolution_steps=8
    )
    assert made.shape == (1, 72, 144, 3)


def test_a_saved_picture_explains_itself(engine, client, graph):
    workflow = {"id": "x", "说明": "猫"}
    entry = client.run(graph(), extra_data={"extra_pnginfo": {"workflow": workflow}})
    (image,) = entry["outputs"]["7"]["images"]
    data = requests.get(f"{engine.url}/view", params=image).content
    info = Image.open(io.BytesIO(data)).info
    assert json.loads(info["prompt"]) == graph()
    assert json.loads(info["workflow"]) == workflow


def test_a_file_that_came_to_be_since_is_not_overwritten(client, graph, tmp_path):
    client.run(graph(seed=1))
    theirs = tmp_path / "engine/output/row_00002_.png"
    theirs.write_bytes(b"theirs")
    entry = client.run(graph(seed=2))
    assert entry["outputs"]["7"]["images"][0]["filename"] == "row_00003_.png"
    assert theirs.read_bytes() == b"theirs"
