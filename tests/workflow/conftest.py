"""A small /object_info and graphs for the tests of logic; a real ComfyUI and its canvas for the others."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from promptmill.driver.workflow import Graph

SHIPPED = Path(__file__).parents[2] / "workflows"
SEED_MAX = 2**64 - 1
MODEL_FOLDERS = [
    "checkpoints",
    "diffusion_models",
    "text_encoders",
    "vae",
    "loras",
    "controlnet",
    "clip_vision",
    "style_models",
    "model_patches",
]
CHECKPOINTS = ["sd3.5_large_fp8_scaled.safetensors", "sd_xl_base_1.0.safetensors"]


def node(
    required: dict[str, Any],
    output: str = "",
    *,
    optional: dict[str, Any] | None = None,
    names: str = "",
    saves: bool = False,
) -> dict[str, Any]:
    outputs = output.split()
    return {
        "input": {"required": required, "optional": optional or {}},
        "input_order": {"required": list(required), "optional": list(optional or {})},
        "output": outputs,
        "output_name": names.split() or outputs,
        "output_node": saves,
    }


def integer(low: int = 0, high: int = 16384, **more: Any) -> list[Any]:
    return ["INT", {"default": low, "min": low, "max": high, **more}]


def real(low: float = 0.0, high: float = 100.0) -> list[Any]:
    return ["FLOAT", {"default": low, "min": low, "max": high}]


LONG = ["STRING", {"multiline": True}]
MATCHED = ["COMFY_MATCHTYPE_V3", {"lazy": True}]
SEED = integer(0, SEED_MAX, control_after_generate=True)
CONDITIONINGS = {"positive": ["CONDITIONING"], "negative": ["CONDITIONING"]}
SAMPLING = {
    "steps": integer(1, 10000), "cfg": real(), "sampler_name": [["euler", "lcm"], {}],
    "scheduler": [["simple", "sgm_uniform"], {}],
}  # fmt: skip
SIZE = {"width": integer(16), "height": integer(16), "batch_size": integer(1, 4096)}
FORMATS = [
    {"key": "png", "inputs": {"required": {"bit_depth": ["COMBO", {"options": ["8-bit", "16-bit"]}]}}},
    {"key": "exr", "inputs": {"required": {"gain": real()}}},
]
OBJECT_INFO: dict[str, Any] = {
    "CheckpointLoaderSimple": node({"ckpt_name": [CHECKPOINTS, {}]}, "MODEL CLIP VAE"),
    "UNETLoader": node({"unet_name": ["COMBO", {"options": ["a.safetensors", "sub/b.safetensors"]}]}, "MODEL"),
    "CLIPTextEncode": node({"text": ["STRING", {"multiline": True, "dynamicPrompts": True}], "clip": ["CLIP"]}, "CONDITIONING"),
    "CLIPTextEncodeFlux": node({"clip": ["CLIP"], "clip_l": LONG, "t5xxl": LONG, "guidance": real()}, "CONDITIONING"),
    "ConditioningZeroOut": node({"conditioning": ["CONDITIONING"]}, "CONDITIONING"),
    "ConditioningCombine": node({"conditioning_1": ["CONDITIONING"], "conditioning_2": ["CONDITIONING"]}, "CONDITIONING"),
    "ControlNetApplyAdvanced": node({**CONDITIONINGS, "strength": real()}, "CONDITIONING CONDITIONING", names="positive negative"),
    "EmptyLatentImage": node(SIZE, "LATENT"),
    "EmptySD3LatentImage": node(SIZE, "LATENT"),
    "LatentUpscale": node({"samples": ["LATENT"], "width": integer(), "height": integer()}, "LATENT"),
    "KSampler": node({"model": ["MODEL"], "seed": SEED, **SAMPLING, **CONDITIONINGS, "latent_image": ["LATENT"], "denoise": real(0, 1)}, "LATENT"),
    "SomeSampler": node({"noise_seed": SEED, **CONDITIONINGS, "latent_image": ["LATENT"]}, "LATENT"),
    "RandomNoise": node({"noise_seed": SEED}, "NOISE"),
    "BasicGuider": node({"model": ["MODEL"], "conditioning": ["CONDITIONING"]}, "GUIDER"),
    "Flux2Scheduler": node({"steps": integer(1), "width": integer(16), "height": integer(16)}, "SIGMAS"),
    "SamplerCustomAdvanced": node({"noise": ["NOISE"], "guider": ["GUIDER"], "sigmas": ["SIGMAS"], "latent_image": ["LATENT"]}, "LATENT LATENT"),
    "VAEDecode": node({"samples": ["LATENT"], "vae": ["VAE"]}, "IMAGE"),
    "VAEEncode": node({"pixels": ["IMAGE"], "vae": ["VAE"]}, "LATENT"),
    "ImageInvert": node({"image": ["IMAGE"]}, "IMAGE"),
    "EmptyImage": node(SIZE, "IMAGE"),
    "LoadImage": node({"image": [["cat.png"], {"image_upload": True}]}, "IMAGE MASK"),
    "GetImageSize": node({"image": ["IMAGE"]}, "INT INT"),
    "SaveImage": node({"images": ["IMAGE"], "filename_prefix": ["STRING", {"default": "ComfyUI"}]}, "IMAGE", saves=True),
    "SaveImageAdvanced": node({"images": ["IMAGE"], "filename_prefix": ["STRING", {}], "format": ["COMFY_DYNAMICCOMBO_V3", {"options": FORMATS}]}, "IMAGE", saves=True),
    "PreviewImage": node({"images": ["IMAGE"]}, saves=True),
    "SaveImageWebsocket": node({"images": ["IMAGE"]}, saves=True),
    "PreviewAny": node({"source": ["*", {}]}, "STRING", saves=True),
    "PrimitiveInt": node({"value": integer(-(2**63), 2**63 - 1, control_after_generate="fixed")}, "INT"),
    "PrimitiveBoolean": node({"value": ["BOOLEAN", {}]}, "BOOLEAN"),
    "PrimitiveStringMultiline": node({"value": LONG}, "STRING"),
    "StringConcatenate": node({"string_a": LONG, "string_b": LONG, "delimiter": ["STRING", {}]}, "STRING"),
    "ComfySwitchNode": node({"switch": ["BOOLEAN", {}], "on_false": MATCHED, "on_true": MATCHED}, "COMFY_MATCHTYPE_V3"),
    "ResolutionSelector": node({"megapixels": real(), "multiple": integer(8, 128)}, "INT INT", names="width height"),
    "Many": node({"images": ["COMFY_AUTOGROW_V3", {"template": {"input": {"required": {"image": ["IMAGE", {}]}}, "prefix": "image_", "min": 1, "max": 3}}]}, "IMAGE"),
}  # fmt: skip


@pytest.fixture(scope="session")
def object_info() -> dict[str, Any]:
    return OBJECT_INFO


@pytest.fixture
def api() -> dict[str, Any]:
    """The shipped text-to-image graph in API format."""
    return json.loads((SHIPPED / "api" / "text_to_image.json").read_text(encoding="utf-8"))


@pytest.fixture
def ui() -> dict[str, Any]:
    """The shipped text-to-image graph in UI format."""
    return json.loads((SHIPPED / "text_to_image.json").read_text(encoding="utf-8"))


@pytest.fixture
def graph(api: dict[str, Any]) -> Graph:
    return Graph(api, OBJECT_INFO)


@pytest.fixture
def edited(api: dict[str, Any]) -> Callable[..., Graph]:
    """The graph with nodes added or replaced (``id=(class, inputs)``) and inputs set (``"5.cfg"``)."""

    def build(nodes: dict[str, Any] | None = None, **inputs: Any) -> Graph:
        changed = copy.deepcopy(api)
        for node_id, (class_type, values) in (nodes or {}).items():
            changed[node_id] = {"class_type": class_type, "inputs": values}
        for place, value in inputs.items():
            node_id, _, name = place.partition(".")
            changed[node_id]["inputs"][name] = value
        return Graph(changed, OBJECT_INFO)

    return build


def ui_node(
    node_id: int, kind: str, inputs: list[Any], outputs: list[Any], widgets: list[Any]
) -> dict[str, Any]:
    return {
        "id": node_id, "type": kind, "mode": 0, "properties": {},
        "inputs": [{"name": name, "type": type_, "link": link} for name, type_, link in inputs],
        "outputs": [{"name": type_, "type": type_, "links": links} for type_, links in outputs],
        "widgets_values": widgets,
    }  # fmt: skip


@pytest.fixture
def boxed() -> dict[str, Any]:
    """A UI graph with a subgraph node (10) whose widgets are prompt, width, height; the size comes from outside.

    Inside, ``prompt`` feeds a text encoder and a PreviewAny, which has no widget of its own.
    """
    box = "5c1f3e6a-0000-4000-8000-000000000001"

    def inner(link: int, origin: int, slot: int, target: int, target_slot: int, kind: str) -> dict[str, Any]:
        return {
            "id": link, "origin_id": origin, "origin_slot": slot, "target_id": target,
            "target_slot": target_slot, "type": kind,
        }  # fmt: skip

    nodes = [
        ui_node(1, "CheckpointLoaderSimple", [], [("MODEL", [1]), ("CLIP", [2]), ("VAE", [3])], CHECKPOINTS[:1]),
        ui_node(2, "CLIPTextEncode", [("clip", "CLIP", 2), ("text", "STRING", 11)], [("CONDITIONING", [4, 9])], ["x"]),
        ui_node(3, "ConditioningZeroOut", [("conditioning", "CONDITIONING", 9)], [("CONDITIONING", [5])], []),
        ui_node(4, "EmptyLatentImage", [("width", "INT", 12), ("height", "INT", 13)], [("LATENT", [6])], [512, 512, 1]),
        ui_node(
            5, "KSampler",
            [("model", "MODEL", 1), ("positive", "CONDITIONING", 4), ("negative", "CONDITIONING", 5), ("latent_image", "LATENT", 6)],
            [("LATENT", [7])], [7, "randomize", 4, 1, "euler", "simple", 1],
        ),
        ui_node(6, "VAEDecode", [("samples", "LATENT", 7), ("vae", "VAE", 3)], [("IMAGE", [8])], []),
        ui_node(7, "PreviewAny", [("source", "*", 14)], [("STRING", [])], []),
    ]  # fmt: skip
    links = [
        inner(1, 1, 0, 5, 0, "MODEL"), inner(2, 1, 1, 2, 0, "CLIP"), inner(3, 1, 2, 6, 1, "VAE"),
        inner(4, 2, 0, 5, 1, "CONDITIONING"), inner(9, 2, 0, 3, 0, "CONDITIONING"), inner(5, 3, 0, 5, 2, "CONDITIONING"),
        inner(6, 4, 0, 5, 3, "LATENT"), inner(7, 5, 0, 6, 0, "LATENT"), inner(8, 6, 0, -20, 0, "IMAGE"),
        inner(11, -10, 0, 2, 1, "STRING"), inner(14, -10, 0, 7, 0, "STRING"), inner(12, -10, 1, 4, 0, "INT"),
        inner(13, -10, 2, 4, 1, "INT"),
    ]  # fmt: skip
    for entry in (nodes[1]["inputs"][1], *nodes[3]["inputs"]):
        entry["widget"] = {"name": entry["name"]}
    names = [("text", "STRING", [11, 14]), ("width", "INT", [12]), ("height", "INT", [13])]
    definition = {
        "id": box, "name": "Draw", "nodes": nodes, "links": links,
        "inputs": [{"id": str(i), "name": n, "type": t, "linkIds": ids} for i, (n, t, ids) in enumerate(names)],
        "outputs": [{"id": "9", "name": "IMAGE", "type": "IMAGE", "linkIds": [8]}],
        "inputNode": {"id": -10}, "outputNode": {"id": -20},
    }  # fmt: skip
    host = ui_node(
        10,
        box,
        [("text", "STRING", None), ("width", "INT", 1), ("height", "INT", 2)],
        [("IMAGE", [3])],
        ["a boat", 256, 256],
    )
    for entry in host["inputs"]:
        entry["widget"] = {"name": entry["name"]}
    outside = [
        ui_node(20, "ResolutionSelector", [], [("INT", [1]), ("INT", [2])], [1.0, 8]),
        host,
        ui_node(30, "SaveImage", [("images", "IMAGE", 3)], [], ["boat"]),
    ]
    return {
        "nodes": outside, "version": 0.4, "definitions": {"subgraphs": [definition]},
        "links": [[1, 20, 0, 10, 1, "INT"], [2, 20, 1, 10, 2, "INT"], [3, 10, 0, 30, 0, "IMAGE"]],
    }  # fmt: skip


# The real thing


@pytest.fixture(scope="session")
def templates() -> Path:
    """The folder of ComfyUI's official workflow templates, in the installed package."""
    found = importlib.util.find_spec("comfyui_workflow_templates_json")
    if found is None or found.origin is None:
        pytest.skip("NOT RUN, needs the official templates: pip install comfyui-workflow-templates-json")
    return Path(found.origin).parent / "templates"


class RealComfy:
    """A running ComfyUI on which every model and image that a template names is an empty file."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.object_info: dict[str, Any] = requests.get(f"{url}/object_info", timeout=30).json()

    def post(self, api: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and answer; what was queued is taken off again."""
        reply = requests.post(f"{self.url}/prompt", json={"prompt": api}, timeout=30)
        requests.post(f"{self.url}/queue", json={"clear": True}, timeout=30)
        requests.post(f"{self.url}/interrupt", json={}, timeout=30)
        return reply.status_code, reply.json()


@pytest.fixture(scope="module")
def comfyui(
    start_comfyui: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, templates: Path
) -> RealComfy:
    base = tmp_path_factory.mktemp("comfyui")
    for folder in ("input", *(f"models/{name}" for name in MODEL_FOLDERS)):
        (base / folder).mkdir(parents=True)
    texts = [
        path.read_text(encoding="utf-8") for path in templates.glob("*.json") if "index" not in path.name
    ]
    for text in [*texts, *(path.read_text(encoding="utf-8") for path in SHIPPED.glob("*.json"))]:
        for name in re.findall(r'"([^"/\\]+\.safetensors)"', text):
            for folder in MODEL_FOLDERS:
                (base / "models" / folder / name).touch()
        for name in re.findall(r'"([^"/\\]+\.(?:png|jpe?g|webp))"', text):
            (base / "input" / name).touch()
    return RealComfy(start_comfyui(base, "--database-url", "sqlite:///:memory:").url)


@pytest.fixture(scope="module")
def canvas(comfyui: RealComfy, browser: Any) -> Iterator[Callable[[Any], dict[str, Any]]]:
    """Load a UI graph in ComfyUI's own frontend; what it would queue (``output``) and save (``workflow``)."""
    page = browser.new_page()
    page.goto(comfyui.url, wait_until="domcontentloaded")
    page.wait_for_function(
        "window.app?.graph && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 100",
        timeout=120_000,
    )

    def load(ui: Any) -> dict[str, Any]:
        script = """async ui => {
            await window.app.loadGraphData(ui, true, false, null)
            const prompt = await window.app.graphToPrompt()
            return JSON.stringify({output: prompt.output, workflow: prompt.workflow})
        }"""
        return json.loads(page.evaluate(script, ui))

    yield load
    page.close()
