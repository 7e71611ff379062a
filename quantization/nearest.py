"""Rounding a large weight to the nearest, a few rows at a time and on all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .formats import FP8, Format, Quantized, rotated

CACHE = 1 << 19
"""Elements at a time on a processor, about what its caches hold."""
CHUNK = 1 << 25
"""Elements at a time on a graphics card."""
TILE = 128
"""Rows of a tile of NVFP4's scales, so that the scales of one chunk follow those of the other."""
THREADS = 8

Map = Callable[[Callable[[int], Tensor], Iterable[int]], Iterable[Tensor]]


@contextmanager
def all_cores() -> Iterator[Map]:
    """
    A map in threads that compute alone.

    Several threads to an operation of this size wait for each other more than they compute, above all on a busy machine.
    """
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(min(threads, THREADS), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield pool.map
        finally:
            torch.set_num_threads(threads)


def round_to_nearest(
    weight: Tensor, fmt: Format, where: str, device: str | torch.device = "cpu", each: Map = map
) -> tuple[Quantized, float]:
    """
    What `Format.quantize` makes of a weight (on a CPU bit for bit) and its relative error; without a copy in fp32 of the whole.

    :param weight: (out features, in features) in any float type.
    :param where: the weight, as errors name it.
    :param each: what calls a function for each chunk.
    :return: tensors on the CPU; the Frobenius norm of the error to that of the weight.
    :raises CheckpointError: the weight holds what is not finite in fp32.
    """
    rows, columns = weight.shape
    extremes = torch.stack(torch.aminmax(weight)).float()
    if not extremes.isfinite().all():
        raise CheckpointError(
            "the weight holds NaN or infinity",
            where=where,
            value=extremes.tolist(),
            hint="download the checkpoint again, or take another one: this one makes black images",
        )
    parameters = fmt.parameters(extremes.unsqueeze(1).expand(2, columns))
    unit = extremes.abs().amax().clamp(min=torch.finfo(torch.float32).tiny).item()
    plan = fmt.plan((rows, columns)).items()
    tensors = {name: torch.empty(shape, dtype=dtype) for name, (dtype, shape) in plan}
    elements = CACHE if torch.device(device).type == "cpu" else CHUNK
    step = max(elements // columns // TILE, 1) * TILE

    def convert(start: int) -> Tensor:
        exact, how = _as_rounded(weight[start : start + step].to(device).float(), parameters)
        with fmt.in_fp32():
            data, params = fmt.layout.quantize(exact, **how)
        for suffix, stored in fmt.layout.state_dict_tensors(data, params).items():
            whole = tensors[f"weight{suffix}"]
            (whole[start : start + len(stored)] if stored.dim() else whole).copy_(stored)
        found = _decoded(data, params.scale) if isinstance(fmt, FP8) else fmt.layout.dequantize(data, params)
        difference = found[: len(exact), :columns].sub_(exact)
        return torch.stack([difference.div_(unit).norm(), exact.div(unit).norm()]).double().square()

    squares = sum(each(convert, range(0, rows, step)), torch.zeros(2, dtype=torch.float64, device=device))
    error, norm = squares.sqrt().tolist()
    return Quantized(tensors, fmt.config((rows, columns))), error / norm if norm else 0.0


def _as_rounded(exact: Tensor, parameters: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """INT8 is rounded in a rotated basis, and the error has the same norm there: so it need not be rotated back."""
    if "convrot" not in parameters:
        return exact, parameters
    return rotated(exact, parameters["convrot_groupsize"]), {"per_channel": True}


def _decoded(data: Tensor, scale: Tensor) -> Tensor:
    """
    E4M3 in fp32, 17 times as fast on a CPU as PyTorch's conversion.

    Sign, exponent and mantissa are moved to where fp16 has them, whose exponent is biased by 8 more.
    """
    half = data.view(torch.int8).to(torch.int16).bitwise_left_shift_(7).bitwise_and_(~0x4000)
    return half.view(torch.float16).float().mul_(scale * 256)
