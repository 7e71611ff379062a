"""``accelerate``: a MODEL whose blocks are compiled, with FP8 and INT8 products of plain tensors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
from comfy import model_management, model_prefetch
from comfy.ldm.ernie import model as ernie
from comfy.patcher_extension import WrappersMP
from comfy.quant_ops import QuantizedTensor
from torch.utils.weak import WeakIdKeyDictionary

from ..padding import ACCELERATED, LENGTHS, without_padding
from .architectures import ARCHITECTURES, BUCKET, Kind, attention_without, padded, trimmed
from .blocks import Block, Blocks
from .shadow import Unsupported, settings_of

Fetched = Callable[[Any], AbstractContextManager[None]]

BOUNDS = {torch.float8_e4m3fn: 0.12, torch.float8_e5m2: 0.25, torch.int8: 0.05}
"""How far what a block adds may be from ComfyUI's own, by the type of its weights; 0.03 for others, which only round."""


def accelerate(model: Any, verify: bool = False, tell: Callable[[str], None] = lambda _: None) -> Any:
    """
    A clone of a MODEL that samples faster, with the same weights, LoRAs and offloading.

    :param model: ComfyUI's ModelPatcher.
    :param verify: compare each block with ComfyUI's own in the first forward, and log by how much they differ.
    :param tell: told what the log is, while the model samples: that it compiles, and what is left to ComfyUI's own way.
    :raises Unsupported: the model is not known here, or holds weights that are not.

    Files in FP8 without ``input_scale`` are sampled with a scale of each token's own, where ComfyUI uses 1, which cuts
    off what is beyond 448: results differ, and ours are the closer ones.
    """
    wrapper = Accelerated(model.model.diffusion_model, verify, tell)
    clone = model.clone()
    clone.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, ACCELERATED)
    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, ACCELERATED, wrapper)
    return clone


class Accelerated:
    """Runs a model's blocks compiled while ComfyUI calls the model."""

    def __init__(self, diffusion_model: Any, verify: bool, tell: Callable[[str], None]) -> None:
        """:raises Unsupported: the model is not known here, or a layer is not ComfyUI's own."""
        if type(diffusion_model) not in ARCHITECTURES:
            raise Unsupported(f"{type(diffusion_model).__name__} is not supported")
        architecture = ARCHITECTURES[type(diffusion_model)]
        kinds = [
            (block, kind)
            for name, kind in architecture.blocks.items()
            for block in getattr(diffusion_model, name)
        ]
        self._model = diffusion_model
        self._attention = architecture.attention
        self._tell = tell
        self._blocks = Blocks([block for block, _ in kinds], architecture.attention, self._say)
        self._kinds = [kind for _, kind in kinds]
        self._class = type(diffusion_model)
        self._parts = [list(map(_state, block.modules())) for block, _ in kinds]
        self._verify = verify
        self._differences: list[float] = []
        self._off = False
        self._said: set[str] = set()
        self._ropes = WeakIdKeyDictionary()

    def __call__(
        self,
        executor: Any,
        x: torch.Tensor,
        t: torch.Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: Any = None,
        **kwargs: Any,
    ) -> Any:
        """ComfyUI's APPLY_MODEL wrapper."""
        options = transformer_options or {}
        model = executor.class_obj
        if model.diffusion_model is not self._model or "multigpu_thread_device" in options:
            self._say_once("the model was copied, to another card or for another node")
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
        if self._off or self._changed():
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
        with ExitStack() as stack:
            if isinstance(self._model, ernie.ErnieImageModel):
                stack.enter_context(without_padding(self._model))
                image = (x.shape[2] // self._model.patch_size) * (x.shape[3] // self._model.patch_size)
                length = c_crossattn.shape[1]
                short = -(image + length) % BUCKET
                kwargs.setdefault(LENGTHS, (length,) * len(x))
                c_crossattn = torch.nn.functional.pad(c_crossattn, (0, 0, 0, short))
            stack.enter_context(self._running(model, x.device))
            made = executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
        if self._differences and not self._off:
            largest = max(0.0, *self._differences)
            self._say(
                f"beyond rounding, accelerated blocks differ from ComfyUI's by {100 * largest:.1f} % at most"
            )
            self._differences, self._verify = [], False
        return made

    def _changed(self) -> bool:
        """Whether a part of a block is another than when it was copied, or works in another way."""
        if type(self._model) is not self._class:
            self._say_once(f"another node made a {type(self._model).__name__} of the model")
            return True
        for block, parts in zip(self._blocks.all, self._parts, strict=True):
            for part, known in zip_longest(block.module.modules(), parts):
                if (
                    part is None
                    or _state(part) != known
                    or getattr(part.forward, "__func__", None) is not type(part).forward
                    or part._forward_hooks
                    or part._forward_pre_hooks
                ):
                    self._say_once(f"another node changed a {type(part).__name__} of the blocks")
                    return True
        return False

    @contextmanager
    def _running(self, model: Any, device: torch.device) -> Iterator[None]:
        with _fetching(model, device) as fetched:
            for block, kind in zip(self._blocks.all, self._kinds, strict=True):
                block.module.forward = partial(self._run, block, kind, fetched)
            try:
                yield
            finally:
                for block in self._blocks.all:
                    del block.module.forward

    def _run(
        self,
        block: Block,
        kind: Kind,
        fetched: Fetched,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        model_management.throw_exception_if_processing_interrupted()
        plain = partial(type(block.module).forward, block.module, *args, **kwargs)
        given = dict(zip(kind.unnamed, args, strict=False)) | kwargs
        with fetched(block.module):
            why = _why_plain(block, kind, args, given)
            if why:
                self._say_once(why)
            if self._off or why:
                return plain()
            ours = {name: given[name].clone() for name in kind.streams} if self._verify else {}
            try:
                made = self._made(block, kind, given | ours)
            except Exception as error:
                if model_management.is_oom(error):
                    raise
                self._off = True
                self._say_once(" ".join(f"{type(error).__name__}: {error}".splitlines()[:2]))
                logging.debug("promptmill: why not", exc_info=True)
                return plain()
            if self._verify:
                before = [given[name].clone() for name in kind.streams]
                with _inputs_as_they_are(block):
                    expected = plain()
                return self._checked(block, before, made, expected)
            return made

    def _made(self, block: Block, kind: Kind, given: dict[str, Any]) -> Any:
        longer, short = padded(kind, given, self._ropes)
        total = sum(longer[name].shape[1] for name in kind.streams)
        attend = attention_without(getattr(*self._attention), short, total, given.get("transformer_options"))
        given = {**longer, **kind.instead}
        made = self._blocks.run(block, longer[kind.streams[0]], total, given, attend)
        return trimmed(kind, made, short)

    def _say(self, line: str, level: int = logging.INFO) -> None:
        logging.log(level, "promptmill: %s", line)
        self._tell(line)

    def _say_once(self, why: str) -> None:
        if why not in self._said:
            self._say(f"not accelerated, {why}")
        self._said.add(why)

    def _checked(self, block: Block, before: list[torch.Tensor], made: Any, expected: Any) -> Any:
        difference = max(
            _difference(x, ours.float(), theirs.float(), torch.finfo(theirs.dtype).eps)
            for x, ours, theirs in zip(before, _all(made), _all(expected), strict=True)
            if theirs is not None
        )
        bound = max(BOUNDS.get(_stored_type(layer), 0.03) for layer, _ in block.layers)
        if not difference <= bound:
            self._off = True
            self._say(
                f"an accelerated block differs from ComfyUI's by {100 * difference:.1f} % (at most {100 * bound:.0f} % is expected); "
                "going on without acceleration. Please report this, with the card and the versions of PyTorch and Triton",
                logging.WARNING,
            )
            return expected
        self._differences.append(difference)
        return made


def _state(part: Any) -> Any:
    return part, type(part), settings_of(part)


def _difference(x: torch.Tensor, ours: torch.Tensor, theirs: torch.Tensor, eps: float) -> float:
    """Of two results for x, as a share of what the block adds to x: beyond what rounding the results to a type makes."""
    return float(((ours - theirs).norm() - eps * theirs.norm()) / (theirs - x).norm())


def _all(made: Any) -> tuple[Any, ...]:
    return made if isinstance(made, tuple) else (made,)


@contextmanager
def _fetching(model: Any, device: torch.device) -> Iterator[Fetched]:
    """What is open while a module runs: it brings the module's weights while the card computes what came before."""
    dynamic = model.current_patcher is not None and model.current_patcher.is_dynamic()
    queue = model_prefetch.make_prefetch_queue([], device, {"prefetch_dynamic_vbars": dynamic})

    @contextmanager
    def fetched(module: Any) -> Iterator[None]:
        """One module at a time, for others may leave modules out, or run them twice."""
        if queue is not None:
            queue[:] = [None, module, None]
        model_prefetch.prefetch_queue_pop(queue, device, module)
        yield
        model_prefetch.prefetch_queue_pop(queue, device, None)

    try:
        yield fetched
    except BaseException:
        model_prefetch.cleanup_prefetch_queues()
        raise


def _stored_type(layer: Any) -> torch.dtype:
    weight: torch.Tensor = layer.weight
    return weight._qdata.dtype if isinstance(weight, QuantizedTensor) else weight.dtype


def _why_plain(block: Block, kind: Kind, args: tuple[Any, ...], given: dict[str, Any]) -> str:
    """Why a call of a block goes ComfyUI's way; nothing where it need not."""
    if len(args) > len(kind.unnamed):
        return "another node calls blocks in a way of its own"
    patches = (given.get("transformer_options") or {}).get("patches", {})
    if inside := [name for name in kind.patches if name in patches]:
        return f"another node's {inside[0]} works inside of blocks"
    if _streamed(block, given[kind.streams[0]].device):
        return "blocks whose weights come to the card one layer at a time"
    return ""


def _streamed(block: Block, device: torch.device) -> bool:
    """Whether weights come through ComfyUI's buffers for one layer at a time; a block's come together otherwise."""
    return any(layer.weight.device != device and not hasattr(layer, "_prefetch") for layer, _ in block.layers)


@contextmanager
def _inputs_as_they_are(block: Block) -> Iterator[None]:
    """While open, ComfyUI quantizes no inputs of FP8 layers without input_scale: it would cut them off at 448."""
    layers = [
        layer
        for layer, _ in block.layers
        if hasattr(layer, "_full_precision_mm") and getattr(layer, "input_scale", None) is None
    ]
    before = [layer._full_precision_mm for layer in layers]
    for layer in layers:
        layer._full_precision_mm = True
    try:
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer._full_precision_mm = value
