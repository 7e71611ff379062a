"""Core node classes as GET /object_info gives them, with ComfyUI's types, limits and defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

PIXELS = 16384
UPSCALE_METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]


def _number(kind: str, default: float, smallest: float, largest: float, **more: Any) -> list[Any]:
    return [kind, {"default": default, "min": smallest, "max": largest, **more}]


def _size(default: int, step: int) -> dict[str, Any]:
    smallest = min(step * 2, 16) if step > 1 else 1
    return {
        "width": _number("INT", default, smallest, PIXELS, step=step),
        "height": _number("INT", default, smallest, PIXELS, step=step),
        "batch_size": _number("INT", 1, 1, 4096),
    }


def _node(
    name: str, title: str, category: str, inputs: Mapping[str, Any], outputs: str = "", saves: bool = False
) -> dict[str, Any]:
    types = outputs.split()
    hidden = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"} if saves else {}
    groups = {"required": dict(inputs), **({"hidden": hidden} if hidden else {})}
    return {
        "input": groups,
        "input_order": {group: list(names) for group, names in groups.items()},
        "is_input_list": False,
        "output": types,
        "output_is_list": [False] * len(types),
        "output_name": ["images"] if saves else types,
        "name": name,
        "display_name": title,
        "description": "",
        "python_module": "nodes",
        "category": category,
        "output_node": saves,
        "has_intermediate_output": False,
        "search_aliases": [],
    }


def object_info(
    models: Iterable[str], samplers: Iterable[str], schedulers: Iterable[str], images: Iterable[str] = ()
) -> dict[str, Any]:
    """
    The nodes of text-to-image and image-to-image graphs.

    :param models: what CheckpointLoaderSimple offers.
    :param images: what LoadImage offers.
    """
    sampler = {
        "model": ["MODEL", {}],
        "seed": _number("INT", 0, 0, 2**64 - 1, control_after_generate=True),
        "steps": _number("INT", 20, 1, 10000),
        "cfg": _number("FLOAT", 8.0, 0.0, 100.0, step=0.1, round=0.01),
        "sampler_name": [list(samplers), {}],
        "scheduler": [list(schedulers), {}],
        "positive": ["CONDITIONING", {}],
        "negative": ["CONDITIONING", {}],
        "latent_image": ["LATENT", {}],
        "denoise": _number("FLOAT", 1.0, 0.0, 1.0, step=0.01),
    }
    text = ["STRING", {"multiline": True, "dynamicPrompts": True}]
    shift = _number("FLOAT", 3.0, 0.0, 100.0, step=0.01)
    color = _number("INT", 0, 0, 0xFFFFFF, step=1, display="color")
    decode = {"samples": ["LATENT", {}], "vae": ["VAE", {}]}
    tiles = {
        "tile_size": _number("INT", 512, 64, 4096, step=32, advanced=True),
        "overlap": _number("INT", 64, 0, 4096, step=32, advanced=True),
        "temporal_size": _number("INT", 64, 8, 4096, step=4, advanced=True),
        "temporal_overlap": _number("INT", 8, 4, 4096, step=4, advanced=True),
    }
    scale = {
        "image": ["IMAGE", {}],
        "upscale_method": [UPSCALE_METHODS, {}],
        "width": _number("INT", 512, 0, PIXELS, step=1),
        "height": _number("INT", 512, 0, PIXELS, step=1),
        "crop": [["disabled", "center"], {}],
    }
    scale_to_total = {
        "image": ["IMAGE", {}],
        "upscale_method": ["COMBO", {"multiselect": False, "options": UPSCALE_METHODS}],
        "megapixels": _number("FLOAT", 1.0, 0.01, 16.0, step=0.01),
        "resolution_steps": _number("INT", 1, 1, 256, advanced=True),
    }
    picture = {"images": ["IMAGE", {}]}
    prefix = ["STRING", {"default": "ComfyUI"}]
    conditioning, latent, image = "model/conditioning", "model/latent", "image"
    nodes = [
        _node(
            "CheckpointLoaderSimple",
            "Load Checkpoint",
            "model/loaders",
            {"ckpt_name": [list(models), {}]},
            "MODEL CLIP VAE",
        ),
        _node(
            "CLIPTextEncode",
            "CLIP Text Encode (Prompt)",
            conditioning,
            {"text": text, "clip": ["CLIP", {}]},
            "CONDITIONING",
        ),
        _node(
            "ConditioningZeroOut",
            "Conditioning Zero Out",
            f"{conditioning}/transform",
            {"conditioning": ["CONDITIONING", {}]},
            "CONDITIONING",
        ),
        _node("EmptyLatentImage", "Empty Latent Image", latent, _size(512, 8), "LATENT"),
        _node(
            "EmptySD3LatentImage",
            "EmptySD3LatentImage",
            f"{latent}/stable diffusion",
            _size(1024, 16),
            "LATENT",
        ),
        _node("EmptyImage", "Empty Image", image, {**_size(512, 1), "color": color}, "IMAGE"),
        _node("KSampler", "KSampler", "model/sampling", sampler, "LATENT"),
        _node(
            "ModelSamplingSD3",
            "ModelSamplingSD3",
            "model/patch/stable diffusion",
            {"model": ["MODEL", {}], "shift": shift},
            "MODEL",
        ),
        _node("VAEDecode", "VAE Decode", latent, decode, "IMAGE"),
        _node("VAEDecodeTiled", "VAE Decode (Tiled)", latent, {**decode, **tiles}, "IMAGE"),
        _node("VAEEncode", "VAE Encode", latent, {"pixels": ["IMAGE", {}], "vae": ["VAE", {}]}, "LATENT"),
        _node(
            "LoadImage", "Load Image", image, {"image": [list(images), {"image_upload": True}]}, "IMAGE MASK"
        ),
        _node("ImageScale", "Upscale Image", "image/upscaling", scale, "IMAGE"),
        _node(
            "ImageScaleToTotalPixels",
            "Scale Image to Total Pixels",
            "image/upscaling",
            scale_to_total,
            "IMAGE",
        ),
        _node("SaveImage", "Save Image", image, {**picture, "filename_prefix": prefix}, "IMAGE", saves=True),
        _node("PreviewImage", "Preview Image", image, picture, "IMAGE", saves=True),
    ]
    return {node["name"]: node for node in nodes}
