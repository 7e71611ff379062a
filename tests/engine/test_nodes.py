"""Each node does to its inputs what ComfyUI's does."""

from __future__ import annotations

import io
import json
import time
import uuid

import numpy as np
import pytest
import requests
import torch
from PIL import Image

from promptmill.driver.comfy import ComfyClient
from promptmill.driver.engine import demo
from promptmill.driver.engine.demo.export import export
from promptmill.driver.engine.models import load
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


TILES = {"tile_size": 64, "overlap": 16, "temporal_size": 64, "temporal_overlap": 8}


@pytest.mark.parametrize(("brightness", "mean"), [(-1.25, (0.75 + 0.75 - 0.25) / 3), (0.0, 1.0), (-3.0, 0.0)])
def test_tiled_decoding_is_the_mean_of_three_tilings_and_only_that_is_cut_off(brightness, mean):
    """Given tiles of 8 x 8, 4 x 16 and 8 x 4 as bright as they are large, expect their mean."""

    class AreaDecoder:
        def decode(self, latent):
            rows, columns = latent.shape[2:]
            return torch.full((1, rows * 8, columns * 8, 3), rows * columns / 32 + brightness)

    latent = {"samples": torch.zeros(1, 16, 8, 16)}
    (made,) = latents.decode_tiled(None, samples=latent, vae=AreaDecoder(), **{**TILES, "overlap": 0})
    torch.testing.assert_close(made, torch.full((1, 64, 128, 3), mean))


@pytest.mark.parametrize("overlap", [16, 4096])
def test_tiles_fade_into_each_other_over_at_most_a_quarter(overlap):
    """Given tiles as bright as their first column's number in 14ths, expect 17 equal steps from one to the next."""

    class FirstColumnDecoder:
        def decode(self, latent):
            rows, columns = latent.shape[2:]
            return latent[0, 0, 0, 0].expand(1, rows * 8, columns * 8, 3)

    latent = (torch.arange(14) / 14).expand(1, 16, 1, 14)
    (made,) = latents.decode_tiled(
        None, samples={"samples": latent}, vae=FirstColumnDecoder(), **{**TILES, "overlap": overlap}
    )
    fade = torch.arange(1, 17) / 17
    by_eight, by_four, by_sixteen = 6 * fade, 4 + 2 * fade, 0
    torch.testing.assert_close(made[0, 0, 48:64, 0], (by_eight + by_four + by_sixteen) / 3 / 14)


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


@pytest.mark.parametrize(("kind", "mask_shape"), [("webp", (2, 64, 64)), ("gif", (2, 8, 12))])
def test_an_animation_is_a_batch(tmp_path, kind, mask_shape):
    frames = [Image.new("RGB", (12, 8), color) for color in ("red", "lime")]
    frames[0].save(tmp_path / f"x.{kind}", save_all=True, append_images=frames[1:], lossless=True)
    picture, mask = images.load(Files(tmp_path), image=f"x.{kind}")
    assert picture[:, 0, 0].tolist() == [[1, 0, 0], [0, 1, 0]]
    assert mask.shape == mask_shape
    assert not mask.any()


def animation(path):
    """Two frames, each with a spot on a transparent ground."""
    frames = [Image.new("RGBA", (50, 38)) for _ in range(2)]
    for place, frame in enumerate(frames):
        frame.paste((250, 30, 10), (10 * place, 5, 10 * place + 15, 30))
    frames[0].save(path, save_all=True, append_images=frames[1:], disposal=2, duration=100, lossless=True)


def test_what_is_transparent_in_a_gif_is_white_and_in_the_mask(tmp_path):
    animation(tmp_path / "x.gif")
    picture, mask = images.load(Files(tmp_path), image="x.gif")
    assert picture[0, 10, 20].tolist() == picture[1, 10, 2].tolist() == [1, 1, 1]
    assert mask[:, 10, [2, 12, 20]].tolist() == [[0, 0, 1], [1, 0, 0]]


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


@pytest.mark.parametrize(
    ("width", "height", "columns", "rows"),
    [(150, 133, slice(8, 142), slice(None)), (133, 164, slice(None), slice(16, 148))],
)
def test_a_center_crop_of_an_odd_size_takes_the_same_from_both_sides(width, height, columns, rows):
    """Given 17 columns or 31 rows too many, expect their half, 8.5 or 15.5, to be rounded to even."""
    image = torch.rand(1, height, width, 3)
    how = {"upscale_method": "bicubic", "width": 128, "height": 128}
    (made,) = images.scale(None, image=image, crop="center", **how)
    (kept,) = images.scale(None, image=image[:, rows, columns], crop="disabled", **how)
    assert torch.equal(made, kept)


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


@pytest.fixture(scope="module")
def real(start_comfyui, tmp_path_factory):
    """A ComfyUI with the demo checkpoint: runs nodes, of which the last is saved; gives its pictures [B, H, W, 3]."""
    base = tmp_path_factory.mktemp("real")
    export(base / "models/checkpoints")
    client = ComfyClient(start_comfyui(base).url)

    def execute(nodes):
        graph = {number: {"class_type": name, "inputs": inputs} for number, (name, inputs) in nodes.items()}
        last = {"images": [list(nodes)[-1], 0], "filename_prefix": "x"}
        graph["save"] = {"class_type": "SaveImage", "inputs": last}
        prompt_id = str(uuid.uuid4())
        client.submit(prompt_id, graph, client_id=None)
        while client.queue_remaining():
            time.sleep(0.02)
        found = client.lookup(prompt_id).outputs
        return np.stack([np.asarray(Image.open(io.BytesIO(client.fetch(image)))) for image in found]) / 255

    execute.input = base / "input"
    return execute


def furthest(made, expected):
    """The largest difference in steps of a byte."""
    assert made.shape == expected.shape
    return np.abs((made * 255).clamp(0, 255).byte().numpy() - expected * 255).max()


@pytest.mark.comfyui
@pytest.mark.parametrize("method", catalogue.UPSCALE_METHODS)
@pytest.mark.parametrize(
    ("size", "to"),
    [((150, 133), (128, 128)), ((133, 150), (128, 128))],
)
def test_a_real_comfyui_crops_the_same(real, method, size, to):
    Image.effect_noise(size, 90).convert("RGB").save(real.input / "odd.png")
    how = {"upscale_method": method, "width": to[0], "height": to[1], "crop": "center"}
    expected = real(
        {"1": ("LoadImage", {"image": "odd.png"}), "2": ("ImageScale", {"image": ["1", 0], **how})}
    )
    picture, _ = images.load(Files(real.input), image="odd.png")
    assert furthest(images.scale(None, image=picture, **how)[0], expected) <= 2


@pytest.mark.comfyui
@pytest.mark.parametrize(
    ("size", "tile", "overlap"),
    [((192, 128), *of) for of in [(64, 0), (64, 32), (96, 32), (128, 64), (512, 64)]]
    + [((384, 384), 128, 64)],
)
def test_a_real_comfyui_decodes_tiles_to_the_same_picture(real, size, tile, overlap):
    noise = np.random.default_rng(0).integers(0, 2, (size[1] // 8, size[0] // 8, 3), np.uint8) * 255
    Image.fromarray(noise).resize(size).save(real.input / "noise.png")
    tiles = {**TILES, "tile_size": tile, "overlap": overlap}
    expected = real(
        {
            "1": ("CheckpointLoaderSimple", {"ckpt_name": demo.NAME}),
            "2": ("LoadImage", {"image": "noise.png"}),
            "3": ("VAEEncode", {"pixels": ["2", 0], "vae": ["1", 2]}),
            "4": ("VAEDecodeTiled", {"samples": ["3", 0], "vae": ["1", 2], **tiles}),
        }
    )
    vae = load(demo.NAME, device="cpu").vae
    picture, _ = images.load(Files(real.input), image="noise.png")
    latent = {"samples": vae.encode(picture)}
    assert furthest(latents.decode_tiled(None, samples=latent, vae=vae, **tiles)[0], expected) <= 2


@pytest.mark.comfyui
@pytest.mark.parametrize("name", ["moving.gif", "moving.webp"])
def test_a_real_comfyui_loads_the_same_frames(real, name):
    animation(real.input / name)
    picture, mask = images.load(Files(real.input), image=name)
    node = ("LoadImage", {"image": name})
    assert furthest(picture, real({"1": node})) <= 2
    expected = real({"1": node, "2": ("MaskToImage", {"mask": ["1", 1]})})
    assert furthest(mask[..., None].expand(-1, -1, -1, 3), expected) <= 2
