"""Load Model (FP8/INT8) and Load Checkpoint (FP8/INT8): a file, in the precision that suits the card."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import folder_paths
from comfy.sd import load_checkpoint_guess_config, load_diffusion_model
from comfy_api.latest import io

from .precision import LOADED, Loadable, loadable, precision_input
from .progress_text import say_where_it_runs
from .sockets import CATEGORY

ALIASES = ["fp8", "int8", "nvfp4", "quantize", "load diffusion model", "unet", "量化", "加载模型"]


class LoadModel(io.ComfyNode):
    """A diffusion model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The face of the node."""
        return io.Schema(
            node_id="PromptmillLoadModel",
            display_name="Load Model (FP8/INT8)",
            category=CATEGORY,
            description="Loads a diffusion model in the precision that suits the card. The first use of a 16-bit file converts it once "
            "into a file that any ComfyUI loads; later ones take it from the cache.",
            search_aliases=ALIASES,
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=folder_paths.get_filename_list("diffusion_models"),
                    tooltip="A file in ComfyUI's models/diffusion_models.",
                ),
                *loading_inputs(),
            ],
            outputs=[io.Model.Output("model", display_name="model"), info_output()],
        )

    @classmethod
    def execute(cls, model_name: str, precision: str, accelerate: bool, verify: bool) -> io.NodeOutput:
        """Convert where needed, and load through ComfyUI's own loader."""
        found = loadable(file_of("diffusion_models", model_name), precision, cls.hidden.unique_id)
        model, line = accelerated(load_diffusion_model(str(found.path)), accelerate, verify)
        return loaded(found, line, model)


class LoadCheckpoint(io.ComfyNode):
    """A checkpoint, with text encoder and VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The face of the node."""
        return io.Schema(
            node_id="PromptmillLoadCheckpoint",
            display_name="Load Checkpoint (FP8/INT8)",
            category=CATEGORY,
            description="Loads a checkpoint, its diffusion model in the precision that suits the card; text encoder and VAE stay as they are. "
            "The first use of a 16-bit file converts it once into a file that any ComfyUI loads; later ones take it from the cache.",
            search_aliases=[*ALIASES, "checkpoint loader"],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
            inputs=[
                io.Combo.Input(
                    "ckpt_name",
                    options=folder_paths.get_filename_list("checkpoints"),
                    tooltip="A file in ComfyUI's models/checkpoints.",
                ),
                *loading_inputs(),
            ],
            outputs=[
                io.Model.Output("model", display_name="model"),
                io.Clip.Output("clip", display_name="clip"),
                io.Vae.Output("vae", display_name="vae"),
                info_output(),
            ],
        )

    @classmethod
    def execute(cls, ckpt_name: str, precision: str, accelerate: bool, verify: bool) -> io.NodeOutput:
        """Convert where needed, and load through ComfyUI's own loader."""
        found = loadable(file_of("checkpoints", ckpt_name), precision, cls.hidden.unique_id)
        embeddings = folder_paths.get_folder_paths("embeddings")
        model, clip, vae, _ = load_checkpoint_guess_config(str(found.path), embedding_directory=embeddings)
        model, line = accelerated(model, accelerate, verify)
        return loaded(found, line, model, clip, vae)


def loading_inputs() -> list[io.Input]:
    """The choices that both nodes have."""
    return [
        precision_input(),
        io.Boolean.Input(
            "accelerate",
            default=False,
            tooltip="Compile the model's blocks, with fused FP8 and INT8 products: the first image of each size "
            "waits for the compiler, a minute or so; the others are faster. A model that cannot be compiled works as without; the log says why.",
        ),
        io.Boolean.Input(
            "verify",
            default=False,
            advanced=True,
            tooltip="With accelerate: compare each block with ComfyUI's own in the first step, and log by how much they differ.",
        ),
    ]


def accelerated(model: Any, accelerate: bool, verify: bool) -> tuple[Any, str]:
    """The model, as it is or compiled, and a line about it."""
    if not accelerate:
        return model, ""
    from ..sampling.accelerate import Unsupported
    from ..sampling.accelerate import accelerate as compiled

    try:
        fast = compiled(model, verify, say_where_it_runs)
    except Unsupported as error:
        logging.info("promptmill: not accelerated, %s", error)
        return model, f"not accelerated: {error}"
    return fast, "accelerated; the first image of each size waits"


def info_output() -> io.String.Output:
    """What was loaded, as text."""
    return io.String.Output(
        "info",
        display_name="info",
        tooltip="Format, sizes, the layers that were kept, and how this device runs it.",
    )


def file_of(category: str, name: str) -> Path:
    """A listed file of ComfyUI's."""
    return Path(folder_paths.get_full_path_or_raise(category, name))


def loaded(found: Loadable, line: str, model: Any, *others: Any) -> io.NodeOutput:
    """The node's outputs; the text, which ends with the line, is shown on the node."""
    LOADED[model.model] = found.path
    info = f"{found.info}\n{line}".strip()
    return io.NodeOutput(model, *others, info, ui={"text": (info,)})
