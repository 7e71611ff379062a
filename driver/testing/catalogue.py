"""The node classes of the fake, as GET /object_info gives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SAMPLERS = ["euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_2m_sde", "res_multistep", "ddim", "uni_pc"]
SCHEDULERS = ["simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal"]
MODELS = ("model_a.safetensors", "model_b.safetensors")
PIXELS = 16384


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


def object_info(models: Iterable[str] = MODELS, without: Iterable[str] = ()) -> dict[str, Any]:
    """
    The core nodes of a text-to-image graph, with ComfyUI's types and limits.

    :param models: what CheckpointLoaderSimple offers.
    :param without: classes to leave out.
    """
    sampler = {
        "model": ["MODEL", {}],
        "seed": _number("INT", 0, 0, 2**64 - 1, control_after_generate=True),
        "steps": _number("INT", 20, 1, 10000),
        "cfg": _number("FLOAT", 8.0, 0.0, 100.0, step=0.1, round=0.01),
        "sampler_name": [SAMPLERS, {}],
        "scheduler": [SCHEDULERS, {}],
        "positive": ["CONDITIONING", {}],
        "negative": ["CONDITIONING", {}],
        "latent_image": ["LATENT", {}],
        "denoise": _number("FLOAT", 1.0, 0.0, 1.0, step=0.01),
    }
    text = ["STRING", {"multiline": True, "dynamicPrompts": True}]
    color = _number("INT", 0, 0, 0xFFFFFF, step=1, display="color")
    image = {"images": ["IMAGE", {}]}
    prefix = ["STRING", {"default": "ComfyUI"}]
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
            "model/conditioning",
            {"text": text, "clip": ["CLIP", {}]},
            "CONDITIONING",
        ),
        _node("EmptyLatentImage", "Empty Latent Image", "model/latent", _size(512, 8), "LATENT"),
        _node(
            "EmptySD3LatentImage",
            "EmptySD3LatentImage",
            "model/latent/stable diffusion",
            _size(1024, 16),
            "LATENT",
        ),
        _node("EmptyImage", "Empty Image", "image", {**_size(512, 1), "color": color}, "IMAGE"),
        _node("KSampler", "KSampler", "model/sampling", sampler, "LATENT"),
        _node(
            "VAEDecode",
            "VAE Decode",
            "model/latent",
            {"samples": ["LATENT", {}], "vae": ["VAE", {}]},
            "IMAGE",
        ),
        _node(
            "VAEEncode",
            "VAE Encode",
            "model/latent",
            {"pixels": ["IMAGE", {}], "vae": ["VAE", {}]},
            "LATENT",
        ),
        _node("VAELoader", "Load VAE", "model/loaders", {"vae_name": [["pixel_space"], {}]}, "VAE"),
        _node("LoadImage", "Load Image", "image", {"image": [[], {"image_upload": True}]}, "IMAGE MASK"),
        _node("SaveImage", "Save Image", "image", {**image, "filename_prefix": prefix}, "IMAGE", saves=True),
        _node("PreviewImage", "Preview Image", "image", image, "IMAGE", saves=True),
    ]
    return {node["name"]: node for node in nodes if node["name"] not in set(without)}
