"""The node classes of the fake."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..protocol import catalogue

SAMPLERS = ["euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_2m_sde", "res_multistep", "ddim", "uni_pc"]
SCHEDULERS = ["simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal"]
MODELS = ("model_a.safetensors", "model_b.safetensors")


def object_info(models: Iterable[str] = MODELS, without: Iterable[str] = ()) -> dict[str, Any]:
    """
    The core nodes of a text-to-image graph, with ComfyUI's types and limits.

    :param models: what CheckpointLoaderSimple offers.
    :param without: classes to leave out.
    """
    nodes = catalogue.object_info(models, SAMPLERS, SCHEDULERS)
    return {name: node for name, node in nodes.items() if name not in set(without)}
