"""Runs with ComfyUI's Python: samples with `accelerate` and without, with models other than ERNIE-Image.

Reads a JSON list of cases on stdin, prints a JSON object a case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import comfy.cli_args

comfy.cli_args.args.cpu = True

import comfy.controlnet  # noqa: E402
import comfy_kitchen  # noqa: E402
import torch  # noqa: E402
from comfy import model_prefetch  # noqa: E402
from comfy.model_patcher import ModelPatcher  # noqa: E402
from comfy.patcher_extension import WrappersMP  # noqa: E402
from tiny_models import answer, apart, changed, made, sample  # noqa: E402
from torch._dynamo.utils import counters  # noqa: E402

from promptmill.sampling.accelerate import accelerate, blocks, fused, linear, model  # noqa: E402
from promptmill.sampling.padding import ACCELERATED  # noqa: E402

BLOCK = {
    "sd35": "joint_blocks.0",
    "flux": "double_blocks.0",
    "zimage": "layers.0",
    "qwen": "transformer_blocks.0",
}
LAYER = {
    "sd35": "x_block.attn.ln_q",
    "flux": "img_attn.qkv",
    "zimage": "feed_forward.w1",
    "qwen": "attn.to_v",
}


def near(name: str, form: str, backend: str = "eager") -> dict[str, Any]:
    """Against ComfyUI's own path, and both against the model before it was quantized; each block against ComfyUI's."""
    patcher, exact = made(form, name=name), sample(made("fp32", name=name), [9])
    with changed(blocks, BACKEND=backend):
        ours = sample(accelerate(patcher, verify=True), [9])
    plain = sample(patcher, [9])
    return {
        "from_plain": apart(ours, plain),
        "error": apart(ours, exact),
        "plain_error": apart(plain, exact),
    }


def verified(name: str, form: str, product: str) -> dict[str, Any]:
    """With products that are wrong by a half."""
    patcher = made(form, name=name)
    right = getattr(linear, product)
    with changed(linear, **{product: lambda *given: right(*given) * 1.5}):
        ours = sample(accelerate(patcher, verify=True), [9])
    return {"from_plain": apart(ours, sample(patcher, [9]))}


def graphs(name: str, lengths: list[int | list[int]]) -> dict[str, Any]:
    """How many graphs are compiled for prompts, or batches of prompts, of these lengths, one after the other."""
    fast = accelerate(made("fp8 static", name=name))
    torch._dynamo.reset()
    counts = []
    for each in lengths:
        before = counters["stats"]["unique_graphs"]
        sample(fast, each if isinstance(each, list) else [each])
        counts.append(counters["stats"]["unique_graphs"] - before)
    return {"graphs": counts}


def rows(name: str, lengths: list[int]) -> dict[str, Any]:
    """A batch against each row alone, accelerated too, and against ComfyUI's own path."""
    patcher = made("fp32", name=name)
    fast = accelerate(patcher)
    together = sample(fast, lengths, cfg=3.0).split(1)
    alone = [sample(fast, [length], [row], 3.0) for row, length in enumerate(lengths)]
    plain = [sample(patcher, [length], [row], 3.0) for row, length in enumerate(lengths)]
    return {
        "from_alone": max(map(apart, together, alone)),
        "from_plain": max(map(apart, together, plain)),
    }


def lora(name: str, form: str) -> dict[str, Any]:
    """Off, on, off, on: of one model, as a table that changes its LoRA does it."""
    patcher = made(form, name=name)
    fast = accelerate(patcher)
    key = f"diffusion_model.{BLOCK[name]}.{LAYER[name]}.weight"
    shape = patcher.model.state_dict()[key].shape
    change = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * (0.1 if len(shape) > 1 else 2)

    def with_lora(given: ModelPatcher) -> ModelPatcher:
        clone = given.clone()
        clone.add_patches({key: ("diff", (change,))})
        return clone

    ways = {"off": (patcher, fast), "on": (with_lora(patcher), with_lora(fast))}
    found = [(sample(ours, [9]), sample(plain, [9])) for plain, ours in map(ways.get, ("off", "on") * 2)]  # type: ignore[misc]
    (off, _), (on, _), (off_again, _), (on_again, _) = found
    return {
        "from_plain": max(apart(*pair) for pair in found),
        "effect": apart(on, off),
        "again": max(apart(off_again, off), apart(on_again, on)),
    }


def double(given: dict[str, Any], block: dict[str, Any]) -> Any:
    out = block["original_block"](given)
    return {**out, "img": out["img"] * 1.5}


def skip(given: dict[str, Any], _: Any) -> Any:
    return given


def query(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **_: Any) -> dict[str, Any]:
    return {"q": q * 1.5}


def called_by_place(block: Any, given: dict[str, Any], _: Any) -> dict[str, Any]:
    img, txt = block(given["img"], given["txt"], given["vec"], given["pe"])
    return {"img": img * 1.5, "txt": txt}


def override(function: Any, q: torch.Tensor, *given: Any, transformer_options: Any, **more: Any) -> Any:
    assert q.shape == given[0].shape, "another node's attention sees padding"
    index = transformer_options.get("block_index", 0)
    return function(q * (2 + index), *given, transformer_options=transformer_options, **more)


def after_block(given: dict[str, Any]) -> dict[str, Any]:
    return {**given, "img": given["img"] * 1.5}


def louder(module: Any, _: Any, out: torch.Tensor) -> torch.Tensor:
    return out * 1.5


class Control(comfy.controlnet.ControlBase):
    """Adds to what blocks return."""

    def get_control(self, x: torch.Tensor, *_: Any) -> dict[str, list[torch.Tensor]]:
        adds = [torch.linspace(-1, 1, 256, dtype=x.dtype).expand(len(x), 64, 256)] * 2
        return {"input": adds, "output": adds}


def part_of(patcher: ModelPatcher, name: str) -> Any:
    return patcher.model.diffusion_model.get_submodule(f"{BLOCK[name]}.{LAYER[name]}")


@contextmanager
def hooked(part: Any) -> Iterator[None]:
    hook = part.register_forward_hook(louder)
    yield
    hook.remove()


PARTS: dict[str, Callable[[Any], AbstractContextManager[None]]] = {
    "hook": hooked,
    "eps": lambda part: changed(part, eps=1.0),
}


PATCHES: dict[str, Callable[[ModelPatcher], None]] = {
    "attn1_patch": lambda patcher: patcher.set_model_attn1_patch(query),
    "double_block": lambda patcher: patcher.set_model_patch(after_block, "double_block"),
    "replaced": lambda patcher: patcher.set_model_patch_replace(double, "dit", "double_block", 0),
    "called by place": lambda patcher: patcher.set_model_patch_replace(
        partial(called_by_place, patcher.model.diffusion_model.double_blocks[0]), "dit", "double_block", 0
    ),
    "left out": lambda patcher: patcher.set_model_patch_replace(skip, "dit", "double_block", 0),
    "override": lambda patcher: patcher.model_options["transformer_options"].update(
        optimized_attention_override=override
    ),
}
CONDITIONS: dict[str, dict[str, Any]] = {
    "control": {"control": Control()},
    "reference": {"reference_latents": [torch.ones(1, 16, 8, 8)]},
    "reference at time 0": {
        "reference_latents": [torch.ones(1, 128, 4, 4)],
        "reference_latents_method": "index_timestep_zero",
    },
    "image at time 0": {
        "reference_latents": [torch.ones(1, 16, 1, 8, 8)],
        "reference_latents_method": "index_timestep_zero",
    },
    "mask": {"attention_mask": (torch.arange(9)[None] < 5).long()},
}


def with_another(name: str, what: str) -> dict[str, Any]:
    """With what another node does in or between blocks, against ComfyUI's own path with the same, and against none of it."""
    patcher = made("fp32", name=name)
    fast = accelerate(patcher)
    without = sample(patcher, [9])
    more = CONDITIONS.get(what, {})
    for each in (patcher, fast):
        PATCHES.get(what, lambda _: None)(each)
    with PARTS[what](part_of(patcher, name)) if what in PARTS else nullcontext():
        plain, ours, again = (sample(each, [9], **more) for each in (patcher, fast, fast))
    return {
        "from_plain": apart(ours, plain),
        "again": apart(again, plain),
        "effect": apart(plain, without),
    }


def object_patched() -> dict[str, Any]:
    """A part of a block that another node puts in place of ComfyUI's, for its clone only."""
    patcher = made("fp32", name="flux")
    fast = accelerate(patcher)
    key = "diffusion_model.double_blocks.0.img_attn.norm.query_norm"
    part = patcher.model.get_submodule(key)
    found = []
    for each in (patcher, fast):
        clone = each.clone()
        clone.add_object_patch(f"{key}.forward", lambda x: type(part).forward(part, x) * 1.5)
        found.append(sample(clone, [9]))
    plain = sample(patcher, [9])
    return {
        "from_plain": apart(*found),
        "effect": apart(found[0], plain),
        "again": apart(sample(fast, [9]), plain),
        "made_later": apart(sample(accelerate(patcher), [9]), plain),
    }


def swapped(name: str) -> dict[str, Any]:
    """With blocks of another node's class, put in place of ComfyUI's when the model was accelerated already."""
    patcher = made("fp32", name=name)
    fast = accelerate(patcher)
    block = patcher.model.diffusion_model.get_submodule(BLOCK[name])
    own = type(block)

    class Louder(own):  # type: ignore[misc, valid-type]
        def forward(self, *given: Any, **more: Any) -> Any:
            img, txt = super().forward(*given, **more)
            return img * 1.5, txt

    without = sample(patcher, [9])
    block.__class__ = Louder
    ours, plain = sample(fast, [9]), sample(patcher, [9])
    block.__class__ = own
    return {
        "from_plain": apart(ours, plain),
        "effect": apart(plain, without),
        "again": apart(sample(fast, [9]), without),
    }


def recompiled(name: str) -> dict[str, Any]:
    """Where PyTorch compiles again what was compiled: matrix products are to be as exact as they can be."""
    patcher = made("fp32", name=name)
    fast = accelerate(patcher)
    products = torch.backends.cuda.matmul
    with changed(torch._dynamo.config, recompile_limit=1):
        sample(fast, [9])
        with changed(products, allow_tf32=not products.allow_tf32):
            return {"from_plain": apart(sample(fast, [9]), sample(patcher, [9]))}


def held(name: str) -> dict[str, Any]:
    """What of the weights the blocks' code holds after sampling."""
    fast = accelerate(made("fp8 static", name=name))
    sample(fast, [9])
    (wrapper,) = fast.get_wrappers(WrappersMP.APPLY_MODEL, ACCELERATED)
    code = [part for shadow in wrapper._blocks._shadows.values() for part in shadow.modules()]
    weights = [vars(part).get(place) for part in code for place in ("weights", "weight", "bias")]
    return {"parts": len(code), "held": sum(weight is not None for weight in weights)}


def streamed(name: str) -> dict[str, Any]:
    """Every second block is not on the card."""
    patcher = made("fp32", name=name)
    fast = accelerate(patcher)
    lists = [
        part for part in patcher.model.diffusion_model.children() if isinstance(part, torch.nn.ModuleList)
    ]
    off_card = {block for each in lists for block in list(each)[1::2]}
    with changed(model, _streamed=lambda block, _: block.module in off_card):
        return {"from_plain": apart(sample(fast, [9]), sample(patcher, [9]))}


def fetched() -> dict[str, Any]:
    """Which blocks' weights are there while a block runs, where another node leaves blocks out."""
    patcher = made("fp32", name="flux")
    fast = accelerate(patcher)
    PATCHES["left out"](fast)
    run, queues, there = blocks.Blocks.run, [], []

    def make(modules: list[Any], *_: Any) -> list[Any]:
        queues.append([None, *modules, None])
        return queues[-1]

    def see(self: Any, block: Any, *given: Any) -> Any:
        _, (module, _) = queues[-1][0]
        there.append(module is block.module)
        return run(self, block, *given)

    with changed(model_prefetch, make_prefetch_queue=make), changed(blocks.Blocks, run=see):
        sample(fast, [9])
    return {"there": there, "left": [queue[0] for queue in queues]}


def rope(function: str, dtype: str) -> dict[str, Any]:
    """Our RoPE of neighbouring channels against comfy-kitchen's plain one."""
    generator = torch.Generator().manual_seed(5)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    q, k = (random(2, 5, 3, 16).to(getattr(torch, dtype)) for _ in range(2))
    matrices, scales = random(1, 5, 1, 8, 2, 2), [random(16).to(q.dtype) for _ in range(2)]
    given = {
        "rms_rope": (q, k, matrices, *scales, 1e-6),
        "rms_rope1": (q, matrices, scales[0], 1e-6),
        "apply_rope": (q, k, matrices),
        "apply_rope1": (q, matrices),
    }[function]
    with comfy_kitchen.use_backend("eager"):
        expected = getattr(comfy_kitchen, function)(*given)
    found = getattr(fused, function)(*given)
    if isinstance(found, tuple):
        found, expected = torch.cat(found), torch.cat(expected)
    return {"difference": apart(found.float(), expected.float())}


answer(
    near, verified, graphs, rows, lora, with_another, object_patched, swapped, recompiled, held, streamed, fetched, rope,
)  # fmt: skip
