"""Blocks of a diffusion model run through one compiled function, their weights from ComfyUI's own cast."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from comfy import ops
from comfy.quant_ops import QuantizedTensor
from torch.utils.weak import WeakIdKeyDictionary

from ...quantization.formats import rotated
from .attention import attending, attention
from .fused import IN_GRAPHS, in_planes
from .linear import LastInput, Linear, Weights
from .shadow import FP8_LAYOUTS, layers_of, likeness, shadow_of

SIZES = 256
"""Shapes that are kept compiled."""

BACKEND = "inductor"

InputScale = tuple[torch.Tensor | None, torch.Tensor | None]
"""A layer's ``input_scale``, and 1 / it."""

NO_SCALE: InputScale = None, None

ON_CARD: dict[str, Any] = {"coordinate_descent_tuning": True}
"""What is fused between the products takes 0.75 to 0.95 of its time when sizes of its launches are tried out."""

INT8: dict[str, Any] = {
    "max_autotune_gemm": True,
    "autotune_num_choices_displayed": 0,
    "max_autotune_report_choices_stats": False,
}
"""Triton's INT8 product, which scales as it writes, is chosen only where products are timed; FP8 gains nothing by that."""


@dataclass(frozen=True, eq=False)
class Block:
    """A block, the code it shares with its like, and each of its layers with the code's."""

    module: Any
    shadow: Any
    layers: list[tuple[Any, Any]]


class Blocks:
    """The blocks of a model."""

    def __init__(self, modules: list[Any], attention_of: tuple[Any, str], say: Callable[[str], None]) -> None:
        """
        :param attention_of: a Python module, and the name of the attention function there that the blocks call.
        :param say: told when something is compiled, and how long it took.
        :raises Unsupported: a layer is not ComfyUI's own.
        """
        self._attention_of = attention_of
        self._say = say
        self._shadows: dict[Any, Any] = {}
        self._last = LastInput()
        self.all = [self._block(module) for module in modules]
        self._functions: dict[tuple[bool, bool], Any] = {}
        self._sizes: set[Any] = set()
        self._input_scales: dict[tuple[float, Any], InputScale] = {}
        self._own_input_scale: dict[Any, float] = {}
        self._planes = WeakIdKeyDictionary()

    def _compiled(self, on_card: bool, int8: bool) -> Any:
        if (on_card, int8) not in self._functions:
            wanted = (ON_CARD if on_card else {}) | (INT8 if on_card and int8 else {})
            known = torch._inductor.list_options()
            options = {name: value for name, value in wanted.items() if name in known}
            self._functions[on_card, int8] = torch.compile(
                _call, dynamic=False, fullgraph=True, backend=BACKEND, options=options or None
            )
        return self._functions[on_card, int8]

    def _block(self, module: Any) -> Block:
        like = likeness(module)
        if like not in self._shadows:
            self._shadows[like] = shadow_of(module, self._last)
        shadow = self._shadows[like]
        return Block(
            module, shadow, [(layer, shadow.get_submodule(name)) for name, layer in layers_of(module)]
        )

    def run(
        self, block: Block, x: torch.Tensor, tokens: int, given: dict[str, Any], attend: Callable[..., Any]
    ) -> Any:
        """
        What the block's own forward returns for these arguments, one of which is x.

        :param tokens: of image and text together.
        :param attend: the attention function that it calls.
        """
        with self._weights(block, x) as found:
            int8 = any(weights.weight.dtype == torch.int8 for weights in found)
            given = {name: self._in_planes(value) for name, value in given.items()}
            call = partial(self._compiled(x.is_cuda, int8), block.shadow, self._last, **given)
            size = (id(block.shadow), _kinds(found), _shapes(given))
            limit = torch._dynamo.config.patch(recompile_limit=SIZES)
            with self._in_graphs(attend), _filled(block, found), limit:
                if size in self._sizes:
                    return call()
                note = "; products of INT8 are timed, for about a minute" if int8 and x.is_cuda else ""
                self._say(
                    f"compiling for rows of {tokens} tokens, {x.shape[0]} in a batch "
                    f"(once for each kind of block and such a size{note})"
                )
                began = time.monotonic()
                made = call()
                self._sizes.add(size)
                self._say(f"compiled in {time.monotonic() - began:.0f} s")
                return made

    @contextmanager
    def _in_graphs(self, attend: Callable[..., Any]) -> Iterator[None]:
        """While open, what the blocks call besides their layers is what can be compiled."""
        ours: dict[tuple[Any, str], Any] = {self._attention_of: attention}
        ours |= {place: function for place, function in IN_GRAPHS.items() if hasattr(*place)}
        before = {place: getattr(*place) for place in ours}
        with attending(attend):
            try:
                for place, function in ours.items():
                    setattr(*place, function)
                yield
            finally:
                for place, function in before.items():
                    setattr(*place, function)

    @contextmanager
    def _weights(self, block: Block, x: torch.Tensor) -> Iterator[list[Weights]]:
        held, found = [], []
        try:
            for layer, _ in block.layers:
                if not isinstance(layer, ops.CastWeightBiasOp):
                    found.append(Weights(_detached(layer.weight)))
                    continue
                weight, bias, stream = ops.cast_bias_weight(
                    layer,
                    x,
                    offloadable=True,
                    compute_dtype=x.dtype,
                    want_requant=isinstance(layer.weight, QuantizedTensor),
                )
                held.append((layer, weight, bias, stream))
                found.append(self._plain(layer, weight, bias))
            yield found
        finally:
            for cast in held:
                ops.uncast_bias_weight(*cast)

    def _plain(self, layer: Any, weight: Any, bias: Any) -> Weights:
        if not isinstance(weight, QuantizedTensor):
            return Weights(_detached(weight), _detached(bias))
        params, values = weight._params, weight._qdata
        if weight._layout_cls in FP8_LAYOUTS:
            as_file_says = not (layer._full_precision_mm or getattr(layer, "comfy_force_cast_weights", False))
            return Weights(
                values,
                _detached(bias),
                params.scale.reshape(()),
                *(self._input_scale(layer, values.device) if as_file_says else NO_SCALE),
                quantize_input=as_file_says,
            )
        rotation = None
        if params.convrot:
            rotation = _rotation(params.convrot_groupsize, values.device, weight.dtype)
        return Weights(values, _detached(bias), params.scale.reshape(-1), rotation=rotation)

    def _input_scale(self, layer: Any, device: torch.device) -> InputScale:
        """Equal ones are one tensor, so that layers with the same input quantize it once."""
        own = getattr(layer, "input_scale", None)
        if own is None:
            return NO_SCALE
        if layer not in self._own_input_scale:
            self._own_input_scale[layer] = float(own)
        value = self._own_input_scale[layer]
        if (value, device) not in self._input_scales:
            both = torch.tensor(value, device=device), torch.tensor(1 / value, device=device)
            self._input_scales[value, device] = both
        return self._input_scales[value, device]

    def _in_planes(self, value: Any) -> Any:
        """Rotary matrices, once for all blocks, laid out as kernels read them; anything else as it is."""
        if not isinstance(value, torch.Tensor) or value.shape[-2:] != (2, 2):
            return value
        if value not in self._planes:
            self._planes[value] = in_planes(value)
        return self._planes[value]


@contextmanager
def _filled(block: Block, found: list[Weights]) -> Iterator[None]:
    """While open, the block's code has weights; kept longer, they would outlive ComfyUI's unloading of the model."""
    try:
        for (_, stand_in), weights in zip(block.layers, found, strict=True):
            _fill(stand_in, weights)
        yield
    finally:
        for _, stand_in in block.layers:
            _fill(stand_in, None)


def _fill(stand_in: Any, weights: Weights | None) -> None:
    if isinstance(stand_in, Linear):
        stand_in.weights = weights
    else:
        stand_in.weight, stand_in.bias = weights[:2] if weights else (None, None)


@cache
def _rotation(group: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """One tensor for all layers, so that those with the same input quantize it once."""
    return rotated(torch.eye(group), group).to(device, dtype)


def _call(shadow: Any, last: LastInput, **given: Any) -> Any:
    made = shadow(**given)
    last.forget()
    return made


def _detached(tensor: Any) -> Any:
    """Without being a Parameter, for which a graph of its own would be compiled."""
    return None if tensor is None else tensor.detach()


def _kinds(found: list[Weights]) -> Any:
    """What of a block's weights a graph is made for: among the rest, which of them share their input's scale."""
    scales = [id(weights.input_scale) for weights in found]
    return tuple(
        (_shapes(weights), weights.quantize_input, scales.index(scale))
        for weights, scale in zip(found, scales, strict=True)
    )


def _shapes(given: Any) -> Any:
    if isinstance(given, torch.Tensor):
        return given.shape, given.dtype
    if isinstance(given, dict):
        return tuple((key, _shapes(value)) for key, value in given.items())
    return tuple(map(_shapes, given)) if isinstance(given, (list, tuple)) else type(given)
