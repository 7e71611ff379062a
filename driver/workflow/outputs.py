"""What a graph will save: which nodes, how many images, how large."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import WorkflowError
from .flow import Flow
from .schema import Target

SAMPLERS = frozenset({"KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced"})
DECODERS = frozenset({"VAEDecode", "VAEDecodeTiled"})
# Empty latents of 8 pixels a cell, which the sampler fits to the model: exact at multiples of 16.
CERTAIN_LATENTS = frozenset({"EmptyLatentImage", "EmptySD3LatentImage"})
COUNTED_LATENTS = CERTAIN_LATENTS | {"EmptyFlux2LatentImage", "EmptyChromaRadianceLatentImage"}
COUNTED_SAVERS = frozenset({"SaveImage", "SaveImageAdvanced"})
VIDEO_SAVERS = frozenset({"SaveWEBM", "SaveVideo"})


@dataclass(frozen=True, slots=True)
class Saver:
    """A node that writes image files; ``prefix`` is its file name prefix."""

    node_id: str
    class_type: str
    prefix: Target


def is_output(flow: Flow, node_id: str) -> bool:
    """Whether ComfyUI executes a graph for the sake of this node."""
    schema = flow.object_info.get(flow.api[node_id]["class_type"], {})
    return bool(schema.get("output_node"))


def savers(flow: Flow) -> tuple[Saver, ...]:
    """The nodes that write images.

    :raises WorkflowError: there are none, so that nothing could be fetched.
    """
    found = tuple(
        Saver(node_id, node["class_type"], Target(node_id, "filename_prefix"))
        for node_id, node in flow.api.items()
        if is_output(flow, node_id)
        and "filename_prefix" in flow.specs(node_id)
        and (flow.of_type(node_id, "IMAGE") or "IMAGE" in flow.outputs(node_id))
        and node["class_type"] not in VIDEO_SAVERS
    )
    if found:
        return found
    outputs = [node["class_type"] for node_id, node in flow.api.items() if is_output(flow, node_id)]
    if "SaveImageWebsocket" in outputs:
        message = "SaveImageWebsocket keeps no file, so a lost message would be a lost image"
    elif outputs:
        message = "only shows its images and saves none"
    else:
        message = "has no output node"
    raise WorkflowError(
        message,
        value=", ".join(outputs) or None,
        hint="add a Save Image node after VAE Decode and save again",
    )


def images_per_job(flow: Flow, found: tuple[Saver, ...], values: Mapping[Target, Any]) -> int | None:
    """How many files one execution writes; None when it cannot be told."""
    total = 0
    for saver in found:
        source = _source(flow, saver)
        if saver.class_type not in COUNTED_SAVERS or source is None:
            return None
        if flow.api[source]["class_type"] not in COUNTED_LATENTS | {"EmptyImage"}:
            return None
        batch = flow.number(source, "batch_size", values)
        if not isinstance(batch, int):
            return None
        total += batch
    return total


def expected_size(
    flow: Flow, found: tuple[Saver, ...], values: Mapping[Target, Any]
) -> tuple[int, int] | None:
    """Width and height in pixels of every saved image; None unless it is certain."""
    sizes = {_size(flow, _source(flow, saver), values) for saver in found}
    return sizes.pop() if len(sizes) == 1 else None


def _size(flow: Flow, source: str | None, values: Mapping[Target, Any]) -> tuple[int, int] | None:
    if source is None:
        return None
    width, height = (flow.number(source, name, values) for name in ("width", "height"))
    if not isinstance(width, int) or not isinstance(height, int):
        return None
    kind = flow.api[source]["class_type"]
    certain = kind == "EmptyImage" or (kind in CERTAIN_LATENTS and width % 16 == height % 16 == 0)
    return (width, height) if certain else None


def _source(flow: Flow, saver: Saver) -> str | None:
    """The node where the saved pixels begin, when only known decoders and samplers lie between."""
    wired = flow.of_type(saver.node_id, "IMAGE")
    origin = flow.source(saver.node_id, wired[0]) if wired else None
    while origin:
        node_id = origin[0]
        kind = flow.api[node_id]["class_type"]
        if kind in DECODERS:
            origin = flow.source(node_id, "samples")
        elif kind in SAMPLERS:
            origin = flow.source(node_id, "latent_image")
        else:
            return node_id
    return None
