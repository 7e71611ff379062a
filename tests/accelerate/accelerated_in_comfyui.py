"""Runs with ComfyUI's Python: samples with `accelerate` and without, and prints how far apart the latents are.

Reads a JSON list of cases on stdin, prints a JSON object a case.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.cli_args

comfy.cli_args.args.cpu = True

import comfy.model_patcher  # noqa: E402
import comfy_kitchen  # noqa: E402
import torch  # noqa: E402
from comfy import ops  # noqa: E402
from comfy.ldm.ernie import model as ernie  # noqa: E402
from comfy.quant_ops import QuantizedTensor  # noqa: E402
from tiny_models import answer, apart, changed, made, sample  # noqa: E402
from torch._dynamo.utils import counters  # noqa: E402
from torch.nn.attention import SDPBackend  # noqa: E402

from promptmill.sampling.accelerate import (  # noqa: E402
    Unsupported,
    accelerate,
    attention,
    blocks,
    fused,
    linear,
    model,
)

Q = "diffusion_model.layers.0.self_attention.to_q.weight"


def near(form: str, backend: str = "eager", emulated: bool = False, massive: bool = False) -> dict[str, Any]:
    """Against ComfyUI's own path, and both against the model before it was quantized."""
    patcher, exact = made(form, massive, emulated), sample(made("fp32", massive), [9])
    told: list[str] = []
    with changed(blocks, BACKEND=backend):
        ours = sample(accelerate(patcher, tell=told.append), [9])
    plain = sample(patcher, [9])
    return {
        "told": told,
        "from_plain": apart(ours, plain),
        "error": apart(ours, exact),
        "plain_error": apart(plain, exact),
    }


def rows(lengths: list[int], cfg: float, form: str) -> dict[str, Any]:
    """A batch against each row alone, accelerated too, and against ComfyUI's own path."""
    patcher = made(form)
    fast = accelerate(patcher)
    together = sample(fast, lengths, cfg=cfg).split(1)
    alone = [sample(fast, [length], [row], cfg) for row, length in enumerate(lengths)]
    plain = [sample(patcher, [length], [row], cfg) for row, length in enumerate(lengths)]
    return {
        "from_alone": max(map(apart, together, alone)),
        "from_plain": max(map(apart, together, plain)),
    }


def graphs(lengths: list[int]) -> dict[str, Any]:
    """How many graphs are compiled for prompts of these lengths, one after the other, in two blocks."""
    fast = accelerate(made("fp8 static"))
    torch._dynamo.reset()
    counts = []
    for length in lengths:
        before = counters["stats"]["unique_graphs"]
        sample(fast, [length])
        counts.append(counters["stats"]["unique_graphs"] - before)
    return {"graphs": counts}


def with_lora(patcher: Any) -> Any:
    clone = patcher.clone()
    generator = torch.Generator().manual_seed(3)
    clone.add_patches({Q: ("diff", (torch.randn(256, 256, generator=generator) * 0.1,))})
    return clone


def lora(form: str, as_function: bool) -> dict[str, Any]:
    """Off, on, off, on: of one model, as a table that changes its LoRA does it."""
    patcher = made(form)
    fast = accelerate(patcher)
    ways = {"off": (patcher, fast), "on": (with_lora(patcher), with_lora(fast))}
    found = []
    with functions_only(as_function):
        for name in ("off", "on", "off", "on"):
            plain, ours = ways[name]
            found.append((sample(ours, [9]), sample(plain, [9])))
    (off, _), (on, _), (off_again, _), (on_again, _) = found
    return {
        "from_plain": max(apart(*pair) for pair in found),
        "effect": apart(on, off),
        "again": max(apart(off_again, off), apart(on_again, on)),
    }


@contextmanager
def functions_only(wanted: bool) -> Iterator[None]:
    """While open, models are loaded as where they do not fit: patches are applied to weights as they are used."""
    whole = comfy.model_patcher.ModelPatcher.load

    def load(self: Any, device: Any, *_: Any, **kwargs: Any) -> Any:
        return whole(self, device, **{**kwargs, "lowvram_model_memory": 1, "full_load": False})

    with changed(comfy.model_patcher.ModelPatcher, load=load if wanted else whole):
        yield


def requantized() -> dict[str, Any]:
    """Of which weights a LoRA's sum is asked for in the type in which they are stored."""
    whole, asked = ops.cast_bias_weight, set()

    def cast(layer: Any, *given: Any, want_requant: bool = False, **more: Any) -> Any:
        asked.add((isinstance(layer.weight, QuantizedTensor), want_requant))
        return whole(layer, *given, want_requant=want_requant, **more)

    fast = accelerate(made("fp8 static"))
    with changed(ops, cast_bias_weight=cast):
        sample(fast, [9])
    return {"quantized": sorted(asked)}


def streamed() -> dict[str, Any]:
    """Blocks of which the second is not on the card."""
    patcher = made("fp8 static")
    first, second = patcher.model.diffusion_model.layers
    whole, compiled = blocks.Blocks.run, []

    def run(self: Any, block: Any, *given: Any) -> Any:
        compiled.append(block.module is first)
        return whole(self, block, *given)

    with (
        changed(model, _streamed=lambda block, _: block.module is second),
        changed(blocks.Blocks, run=run),
    ):
        ours = sample(accelerate(patcher), [9])
    return {"from_plain": apart(ours, sample(patcher, [9])), "compiled": compiled}


def unsupported(what: str) -> dict[str, Any]:
    """Models that cannot be accelerated."""
    patcher = made(what if what in ("unscaled fp8", "mxfp8") else "fp32")
    if what == "another architecture":
        patcher.model.diffusion_model.__class__ = type("Other", (ernie.ErnieImageModel,), {})
    if what == "another layer":
        attend = patcher.model.diffusion_model.layers[1].self_attention
        attend.to_k.__class__ = type("Linear", (type(attend.to_k),), {})
    try:
        accelerate(patcher)
    except Unsupported as error:
        return {"why": str(error)}
    raise AssertionError("it was not refused")


def broken(what: str) -> dict[str, Any]:
    """Models of which it is seen too late that they cannot be accelerated, against ComfyUI's own path."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler\nthere")

    patcher = made("fp32")
    with changed(blocks, BACKEND=refuse if what == "no compiler" else "eager"):
        fast = accelerate(patcher)
        if what == "a copy":
            fast.model = made("fp32").model
        ours = sample(fast, [9])
        again = sample(fast, [9])
    plain = sample(patcher, [9])
    return {"from_plain": apart(ours, plain), "again": apart(again, plain)}


def verified(product: str, form: str, massive: bool = False) -> dict[str, Any]:
    """:param product: what is wrong by a tenth, of the products of `linear`."""
    patcher = made(form, massive)
    right = getattr(linear, product, None)
    wrong: dict[str, Any] = {product: lambda *given: right(*given) * 1.1} if right else {}
    with changed(linear, **wrong):
        fast = accelerate(patcher, verify=True)
        ours, again = sample(fast, [9]), sample(fast, [9])
    plain = sample(patcher, [9])
    return {
        "from_plain": apart(ours, plain),
        "again": apart(again, plain),
        "from_ours": apart(ours, sample(accelerate(patcher), [9])),
    }


def little_added() -> dict[str, Any]:
    """Verified, where blocks add little to what they are given, and a product is rounded otherwise."""
    patcher, whole = made("bf16"), torch.nn.functional.linear
    for name in ("x_embedder", "text_proj"):
        part = getattr(patcher.model.diffusion_model, name)
        part.register_forward_hook(lambda _, inputs, outputs: outputs * 30)

    class Otherwise:
        @staticmethod
        def linear(*given: Any) -> torch.Tensor:
            return whole(*given) * (1 + 2**-8)

    with changed(linear, functional=Otherwise):
        sample(accelerate(patcher, verify=True), [9])
    return {}


def turned(dtype: str, rows: int) -> dict[str, Any]:
    """Our RoPE against comfy-kitchen's plain one, with matrices of each row or of all."""
    generator = torch.Generator().manual_seed(5)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    q, k = (random(2, 5, 3, 16).to(getattr(torch, dtype)) for _ in range(2))
    scales = [random(16).to(q.dtype) for _ in range(2)]
    given = (q, k, random(rows, 5, 1, 8, 2, 2), *scales, 1e-6)
    with comfy_kitchen.use_backend("eager"):
        expected = comfy_kitchen.rms_rope_split_half(*given)
    found = fused.rms_rope_split_half(*given)
    planes = fused.rms_rope_split_half(q, k, fused.in_planes(given[2]), *scales, 1e-6)
    return {
        "difference": max(map(apart, map(torch.Tensor.float, found), map(torch.Tensor.float, expected))),
        "same in planes": all(map(torch.equal, found, planes)),
    }


def gelu(approximate: str) -> dict[str, Any]:
    """How far ours is from PyTorch's in fp64, and at what is not finite."""
    x = torch.linspace(-9, 9, 100_001)
    exact = torch.nn.functional.gelu(x.double(), approximate=approximate)
    odd = torch.tensor([float("inf"), -1e30, float("nan")])
    return {
        "difference": (fused.gelu(x, approximate).double() - exact).abs().max().item(),
        "odd": [str(value) for value in fused.gelu(odd, approximate).tolist()],
        "type": str(fused.gelu(x.bfloat16(), approximate).dtype),
    }


def as_before() -> dict[str, Any]:
    """What ComfyUI's modules hold when sampling ended in an error."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError

    fast = accelerate(made("fp32"))
    with changed(ernie, optimized_attention=refuse):
        places = ((ernie, "optimized_attention"), (comfy_kitchen, "rms_rope_split_half"))
        before = [getattr(*place) for place in places]
        try:
            sample(fast, [9])
        except torch.OutOfMemoryError:
            return {"same": [getattr(*place) for place in places] == before}
    raise AssertionError("no error came through")


def first_attention(capability: list[int]) -> dict[str, Any]:
    ops.SDPA_BACKEND_PRIORITY = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH]
    with attention.cudnn_first(tuple(capability)):
        inside = [backend.name for backend in ops.SDPA_BACKEND_PRIORITY]
    after = [backend.name for backend in ops.SDPA_BACKEND_PRIORITY]
    return {"inside": inside, "after": after}


def tuned() -> dict[str, Any]:
    return {"unknown": sorted(set(blocks.ON_CARD | blocks.INT8) - set(torch._inductor.list_options()))}


answer(
    near, rows, graphs, lora, requantized, streamed, unsupported, broken, verified, little_added, turned, gelu, as_before, first_attention, tuned,
)  # fmt: skip
