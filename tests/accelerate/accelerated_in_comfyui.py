"""Runs with ComfyUI's Python: samples with `accelerate` and without, and prints how far apart the latents are.

Reads a JSON list of cases on stdin, prints a JSON object a case.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import comfy.cli_args

comfy.cli_args.args.cpu = True

import comfy.model_patcher  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.supported_models as supported  # noqa: E402
import comfy_kitchen  # noqa: E402
import torch  # noqa: E402
from comfy import ops  # noqa: E402
from comfy.ldm.ernie import model as ernie  # noqa: E402
from comfy.quant_ops import QuantizedTensor  # noqa: E402
from comfy.utils import detect_layer_quantization  # noqa: E402
from torch._dynamo.utils import counters  # noqa: E402
from torch.nn.attention import SDPBackend  # noqa: E402

from promptmill.sampling import RowGuider, RowNoise  # noqa: E402
from promptmill.sampling.accelerate import accelerate, attention, blocks, linear, model, rope  # noqa: E402

STEPS, CONTEXT = 2, 32
TINY = {
    "image_model": "ernie",
    "hidden_size": 256,
    "num_attention_heads": 2,
    "num_layers": 2,
    "ffn_hidden_size": 512,
    "text_in_dim": CONTEXT,
    "rope_axes_dim": (32, 48, 48),
}
Q = "diffusion_model.layers.0.self_attention.to_q.weight"
FP8: tuple[Any, ...] = ({"format": "float8_e4m3fn"}, "TensorCoreFP8E4M3Layout", {"scale": "recalculate"})
ROTATED = {"convrot": True, "convrot_groupsize": 256}
FORMATS: dict[str, tuple[Any, ...]] = {
    "fp8 dynamic": FP8,
    "fp8 static": FP8,
    "int8": ({"format": "int8_tensorwise"}, "TensorWiseINT8Layout", {"per_channel": True}),
    "int8 convrot": (
        {"format": "int8_tensorwise", **ROTATED},
        "TensorWiseINT8Layout",
        {"per_channel": True, **ROTATED},
    ),
    "mxfp8": ({"format": "mxfp8"}, "TensorCoreMXFP8Layout", {}),
}
said: list[str] = []


class Keep(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if "promptmill" in record.getMessage():
            said.append(record.getMessage())


logging.getLogger().addHandler(Keep())
logging.getLogger().setLevel(logging.INFO)


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@cache
def random_weights(massive: bool) -> dict[str, torch.Tensor]:
    """:param massive: of norms, so that some inputs of layers are beyond 448."""
    with torch.device("meta"):
        like = ernie.ErnieImageModel(**TINY, operations=torch.nn).state_dict()
    generator = torch.Generator().manual_seed(1)
    weights = {}
    for name, weight in like.items():
        gain = "norm" in name or name.endswith("ln.weight")
        spread = 1.3 / weight.shape[-1] ** 0.5 if weight.ndim > 1 else 0.05
        weights[name] = torch.randn(weight.shape, generator=generator) * spread + gain
    if massive:
        for number in range(TINY["num_layers"]):
            weights[f"layers.{number}.adaLN_mlp_ln.weight"][3] = 2000.0
    return weights


def quantized(form: str, massive: bool) -> dict[str, torch.Tensor]:
    weights = dict(random_weights(massive))
    if form not in FORMATS:
        return weights
    about, layout, how = FORMATS[form]
    for name, weight in random_weights(massive).items():
        if name.startswith("layers.") and weight.ndim == 2:
            layer = name.removesuffix(".weight")
            for key, tensor in QuantizedTensor.from_float(weight, layout, **how).state_dict(name).items():
                weights[key] = tensor
            weights[f"{layer}.comfy_quant"] = torch.tensor(
                list(json.dumps(about).encode()), dtype=torch.uint8
            )
    if form == "fp8 static":
        weights |= {f"{name}.input_scale": 2 * most / 448 for name, most in largest_inputs().items()}
    return weights


@cache
def largest_inputs() -> dict[str, torch.Tensor]:
    patcher, found = made("fp32"), {}
    hooks = []
    for name, layer in patcher.model.diffusion_model.named_modules():
        if name.startswith("layers.") and isinstance(layer, torch.nn.Linear):

            def see(_: Any, args: tuple[torch.Tensor, ...], name: str = name) -> None:
                found[name] = args[0].abs().amax()

            hooks.append(layer.register_forward_pre_hook(see))
    sample(patcher, [9])
    for hook in hooks:
        hook.remove()
    return found


def made(form: str, massive: bool = False, emulated: bool = False) -> Any:
    """
    A MODEL of random weights.

    :param emulated: leave FP8 products to ComfyUI's rule, which on a CPU makes none.
    """
    weights = quantized(form, massive)
    config = supported.ErnieImage(TINY)
    config.quant_config = detect_layer_quantization(weights, "")
    compute = torch.bfloat16 if form == "bf16" else torch.float32
    stored = torch.float8_e4m3fn if form == "unscaled fp8" else compute
    config.set_inference_dtype(stored, compute)
    built = config.get_model(weights, "")
    cpu = torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(built, cpu, cpu)
    built.load_model_weights(weights, "")
    for layer in built.modules():
        if hasattr(layer, "_full_precision_mm") and not emulated:
            layer._full_precision_mm = False
    return patcher


def conditioning(row: int, length: int) -> list[list[Any]]:
    generator = torch.Generator().manual_seed(100 + row)
    return [[torch.randn(1, length, CONTEXT, generator=generator), {}]]


def sample(
    patcher: Any, lengths: Sequence[int], rows: Sequence[int] | None = None, cfg: float = 1.0
) -> torch.Tensor:
    """Rows of prompts of these lengths, one batch: 64 tokens of image each."""
    rows = range(len(lengths)) if rows is None else rows
    seeds = list(rows)
    latent = torch.zeros(len(lengths), 128, 8, 8)
    positive = [conditioning(row, length) for row, length in zip(rows, lengths, strict=True)]
    guider = RowGuider(patcher, positive, [conditioning(99, 7)] * len(seeds), cfg, seeds)
    sampled = guider.sample(
        RowNoise(seeds).generate_noise({"samples": latent}),
        latent,
        comfy.samplers.sampler_object("euler"),
        comfy.samplers.KSampler(patcher, STEPS, torch.device("cpu"), "euler", "simple").sigmas,
        disable_pbar=True,
    )
    return sampled.cpu()


@contextmanager
def changed(owner: Any, **values: Any) -> Iterator[None]:
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


def near(form: str, backend: str = "eager", emulated: bool = False, massive: bool = False) -> dict[str, Any]:
    """Against ComfyUI's own path, and both against the model before it was quantized."""
    patcher, exact = made(form, massive, emulated), sample(made("fp32", massive), [9])
    with changed(blocks, BACKEND=backend):
        ours = sample(accelerate(patcher), [9])
    plain = sample(patcher, [9])
    return {
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


def streamed() -> dict[str, Any]:
    """Blocks of which the second is not on the card, with the ComfyUI of today and one that fetches no blocks ahead."""
    patcher = made("fp8 static")
    first, second = patcher.model.diffusion_model.layers
    whole, compiled = blocks.Blocks.run, []

    def run(self: Any, block: Any, *given: Any) -> Any:
        compiled.append(block.module is first)
        return whole(self, block, *given)

    found = {}
    for name, prefetch in (("today", model.model_prefetch), ("older", None)):
        fast = accelerate(patcher)
        with (
            changed(model, model_prefetch=prefetch, _streamed=lambda block, _: block.module is second),
            changed(blocks.Blocks, run=run),
        ):
            found[name] = apart(sample(fast, [9]), sample(patcher, [9]))
    return {**found, "compiled": compiled}


def broken(what: str) -> dict[str, Any]:
    """Models that cannot be accelerated, against ComfyUI's own path."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler\nthere")

    patcher = made(what if what in ("unscaled fp8", "mxfp8") else "fp32")
    if what == "another architecture":
        patcher.model.diffusion_model.__class__ = type("Other", (ernie.ErnieImageModel,), {})
    if what == "another layer":
        attend = patcher.model.diffusion_model.layers[1].self_attention
        attend.to_k.__class__ = type("Linear", (type(attend.to_k),), {})
    with changed(blocks, BACKEND=refuse if what == "no compiler" else "eager"):
        fast = accelerate(patcher)
        if what == "a copy":
            fast.model = made("fp32").model
        ours = sample(fast, [9])
        again = sample(fast, [9])
    plain = sample(patcher, [9])
    return {"from_plain": apart(ours, plain), "again": apart(again, plain)}


def verified(product: str, form: str) -> dict[str, Any]:
    """:param product: what is wrong by a tenth, of the products of `linear`."""
    patcher = made(form)
    right = getattr(linear, product, None)
    wrong: dict[str, Any] = {product: lambda *given: right(*given) * 1.1} if right else {}
    with changed(linear, **wrong):
        fast = accelerate(patcher, verify=True)
        ours, again = sample(fast, [9]), sample(fast, [9])
    plain = sample(patcher, [9])
    return {"from_plain": apart(ours, plain), "again": apart(again, plain)}


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
    found = rope.rms_rope_split_half(*given)
    return {"difference": max(map(apart, map(torch.Tensor.float, found), map(torch.Tensor.float, expected)))}


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
    return {"unknown": sorted(set(blocks.TUNED) - set(torch._inductor.list_options()))}


WHAT: list[Callable[..., dict[str, Any]]] = [
    near, rows, graphs, lora, streamed, broken, verified, turned, as_before, first_attention, tuned,
]  # fmt: skip
BY_NAME = {function.__name__: function for function in WHAT}

with torch.inference_mode():
    blocks.BACKEND = "eager"
    for case in json.load(sys.stdin):
        said.clear()
        found = BY_NAME[case.pop("do")](**case)
        print(json.dumps({**found, "said": said}), flush=True)
