"""What a card computes with, and which format suits it: rules on facts, each with the place it comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

Capability = tuple[int, ...]

AS_IT_IS = "as it is"
FORMATS = ("fp8", "int8", "nvfp4")
NATIVELY, BY_PYTORCH, EMULATED, NOT_AT_ALL = "natively", "by PyTorch", "emulated", "not at all"
UNKNOWN = "not known"

FP8_FROM, INT8_FROM, NVFP4_FROM = (8, 9), (7, 5), (10, 0)
"""Compute capabilities: ComfyUI's ``supports_fp8_compute`` and ``supports_nvfp4_compute``, comfy-kitchen's ``int8_linear``."""
KITCHEN_CUDA = (13, 0)
"""ComfyUI turns comfy-kitchen's CUDA kernels off on a PyTorch for an older CUDA."""

RESERVED = int(1.2 * 2**30)
"""What ComfyUI leaves free: 0.8 GiB for inference and 0.4 GiB for others (``minimum_inference_memory``)."""
ROW, FIRST_ROW = int(0.52e9), int(0.02e9)
"""Memory of a row of a batch, and what the first takes more: measured, ERNIE-Image in bf16, 1264 x 848 (docs/performance.md)."""
STREAMED_ROWS = 4
"""Where weights are streamed: 4 rows made 1.50 times the images, 8 rows 1.52 (measured, H100 with 8 GB left)."""
WEIGHTS_8B = {AS_IT_IS: int(16.07e9), "fp8": int(8.22e9), "int8": int(8.22e9)}
"""Files of an 8.03 B model (measured, ERNIE-Image). Z-Image (6 B) is smaller, SD3.5-large (8.15 B) 1 % larger (computed)."""


@dataclass(frozen=True)
class Device:
    """A device that computes."""

    name: str
    kind: str
    """``cuda`` (NVIDIA), ``rocm``, ``mps``, ``cpu``, or what else PyTorch calls it."""
    memory: int
    """Bytes in all; 0 where PyTorch does not tell."""
    capability: Capability | None = None
    """NVIDIA's compute capability; None where it is not known, and on other makes."""
    cuda: Capability | None = None
    """The CUDA that PyTorch was built for."""

    def __str__(self) -> str:
        known = [f"compute capability {_dotted(self.capability)}"] if self.capability else []
        known += [f"{self.memory / 2**30:.0f} GiB"] if self.memory else []
        return f"{self.name} ({', '.join(known)})" if known else self.name


class Run(NamedTuple):
    """How a format runs on a device."""

    how: str
    """
    ``natively``, ``by PyTorch`` (INT8 without comfy-kitchen's kernels), ``emulated`` (the weights are converted back before each
    product), ``not at all`` or ``not known``.
    """
    why: str


class Choice(NamedTuple):
    """A format for a device."""

    format: str
    """One of `FORMATS`, or `AS_IT_IS`."""
    why: str


@dataclass(frozen=True)
class Advice:
    """What to do with a model on a device."""

    choice: Choice
    fits: bool
    """Whether weights, one row and what ComfyUI leaves free fit in the memory at once."""
    rows: int
    """Rows per batch."""
    memory: int
    """Bytes of weights and that batch; where they do not fit, ComfyUI streams weights through what is there."""


def this_device(device: Any) -> Device:
    """What PyTorch tells of a ``torch.device``."""
    import torch

    if device.type != "cuda":
        return Device(device.type, device.type, 0)
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip:
        return Device(properties.name, "rocm", properties.total_memory)
    capability = (properties.major, properties.minor)
    cuda = tuple(map(int, str(torch.version.cuda).split(".")))
    return Device(properties.name, "cuda", properties.total_memory, capability, cuda)


def runs(format_name: str, device: Device) -> Run:
    """
    How ComfyUI computes with weights in a format.

    :param format_name: one of `FORMATS`.
    """
    if device.kind == "mps":
        return Run(NOT_AT_ALL, "PyTorch has neither FP8 nor INT8 products on Apple's GPUs")
    if device.kind != "cuda":
        if format_name == "int8":
            return Run(BY_PYTORCH, "ComfyUI never emulates INT8; how fast it is here was not measured")
        if format_name == "fp8" and device.kind == "rocm":
            return Run(
                UNKNOWN, "natively on AMD's gfx1200, gfx1201 and gfx950, by ComfyUI; not measured here"
            )
        return Run(EMULATED, "native products need an NVIDIA card")
    if device.capability is None:
        return Run(UNKNOWN, f"natively from {_wanted(format_name)} on; what this card has is not known")
    needed = {"fp8": FP8_FROM, "int8": INT8_FROM, "nvfp4": NVFP4_FROM}[format_name]
    if device.capability < needed:
        how = NOT_AT_ALL if format_name == "int8" else EMULATED
        return Run(
            how, f"natively from {_wanted(format_name)} on, this card has {_dotted(device.capability)}"
        )
    if format_name != "fp8" and device.cuda is not None and device.cuda < KITCHEN_CUDA:
        why = f"slowly: comfy-kitchen's kernels need a PyTorch for CUDA 13, this one is for {_dotted(device.cuda)}"
        return Run(NATIVELY, why)
    return Run(NATIVELY, f"compute capability {_dotted(device.capability)}")


def fits(weights: int, device: Device) -> bool:
    """Whether ``weights`` bytes, one row and what ComfyUI leaves free are in the device's memory at once."""
    return weights + FIRST_ROW + ROW + RESERVED <= device.memory


def best_format(device: Device, weights: int) -> Choice:
    """
    The format for a model whose weights take ``weights`` bytes in 16 bits: what the precision ``auto`` chooses.

    1. FP8 where it is native: 0.77 of BF16's time and half the memory (measured, H100).
    2. INT8 (ConvRot) on NVIDIA cards from 7.5 to 8.8 on which the model does not fit in 16 bits: half the memory. It is no faster
       than BF16 by itself (1.04 of its time on an H100), so a model that fits stays as it is.
    3. Else as it is: nothing was measured that would be gained.

    NVFP4 is never chosen by itself: it rounds more, and nothing of it was measured yet.
    """
    if device.kind == "cuda" and device.capability is None:
        return Choice(AS_IT_IS, f"choose fp8 from {_wanted('fp8')} on, else int8 where memory is short")
    if device.capability is None or device.capability < INT8_FROM:
        return Choice(AS_IT_IS, "this device gains nothing from FP8 or INT8 that was measured")
    if device.capability >= FP8_FROM:
        return Choice("fp8", "FP8 is native here: 0.77 of BF16's time (measured, H100) and half the memory")
    if fits(weights, device):
        return Choice(
            AS_IT_IS,
            "the model fits in 16 bits, FP8 is not native here, and INT8 is no faster without accelerate",
        )
    return Choice("int8", "the model does not fit in 16 bits: INT8 is native here and takes half the memory")


def advise(device: Device, weights: dict[str, int] = WEIGHTS_8B) -> Advice:
    """
    Format, rows per batch and memory for a model on a device.

    Rows of a batch pay where weights are streamed; where they fit, one row is as fast to a few percent.

    :param weights: bytes by format: `AS_IT_IS`, ``fp8`` and ``int8``.
    """
    choice = best_format(device, weights[AS_IT_IS])
    size = weights[choice.format]
    whole = fits(size, device)
    rows = 1 if whole else max(1, min(STREAMED_ROWS, device.memory // 2 // ROW))
    return Advice(choice, whole, rows, size + FIRST_ROW + rows * ROW)


CAPABILITIES = (
    (r"GeForce RTX 50\d\d|RTX PRO .*Blackwell", (12, 0)),
    (r"\bB200|\bGB200", (10, 0)),
    (r"\bG?H(20|100|200|800)\b", (9, 0)),
    (r"GeForce RTX 40\d\d|\bL40?S?\b|RTX .*Ada\b", (8, 9)),
    (r"\bA100|\bA30\b", (8, 0)),
    (r"GeForce RTX (30\d\d|2050)|\bA(2|10G?|16|40)\b|RTX A\d{4}", (8, 6)),
    (r"GeForce RTX 20[678]0|GTX 16\d\d|\bT4\b|TITAN RTX|Quadro RTX", (7, 5)),
    (r"\bV100|TITAN V\b", (7, 0)),
    (r"GTX 10\d\d|\bP40?\b|TITAN Xp?\b", (6, 1)),
)
"""From NVIDIA's table of CUDA GPUs; a name that is not here is not guessed."""


def device_of_server(stats: dict[str, Any], torch_version: str) -> Device:
    """
    A device as ComfyUI's ``/system_stats`` tells of it; the capability is looked up by the card's name.

    :param stats: one of ``devices``: ``name`` ("cuda:0 NVIDIA L4 : native"), ``type``, ``vram_total`` in bytes.
    :param torch_version: ``pytorch_version``: "2.11.0+cu130".
    """
    name = re.sub(r"^(CUDA )?cuda:\d+:? | : \w+$", "", stats["name"])
    kind = stats["type"]
    build = torch_version.partition("+")[2]
    if kind == "cuda" and build.startswith("rocm"):
        kind = "rocm"
    found = (capability for pattern, capability in CAPABILITIES if re.search(pattern, name))
    cuda = re.fullmatch(r"cu(\d+)(\d)", build)
    return Device(
        name,
        kind,
        stats["vram_total"],
        next(found, None) if kind == "cuda" else None,
        (int(cuda[1]), int(cuda[2])) if cuda else None,
    )


def _wanted(format_name: str) -> str:
    return {
        "fp8": "compute capability 8.9 (RTX 40)",
        "int8": "compute capability 7.5 (RTX 20)",
        "nvfp4": "compute capability 10.0 (RTX 50, B200)",
    }[format_name]


def _dotted(version: Capability) -> str:
    return ".".join(map(str, version))
