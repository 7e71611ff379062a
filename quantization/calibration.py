"""What the inputs of a model's linear layers are like: their range, and how they go together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .formats import E4M3_MAX

HEADROOM = 2.0
"""Times the largest input that was seen: others will be larger."""
TOKENS_PER_FEATURE = 8
"""With fewer, X^T X describes these tokens rather than the layer's inputs."""


@dataclass(eq=False)
class Moments:
    """X^T X of a layer's inputs in fp32, and how many tokens X has: those to round by, and those to judge by."""

    training: Tensor
    held_out: Tensor
    training_tokens: int = 0
    held_out_tokens: int = 0

    @classmethod
    def zeros(cls, features: int, device: torch.device | str = "cpu") -> Moments:
        """Of no inputs yet."""
        zeros = torch.zeros(features, features, device=device)
        return cls(zeros, zeros.clone())

    def add(self, tokens: Tensor, held_out: bool) -> None:
        """Take up inputs (tokens, features)."""
        tokens = tokens.detach().float()
        if held_out:
            self.held_out.addmm_(tokens.T, tokens)
            self.held_out_tokens += len(tokens)
        else:
            self.training.addmm_(tokens.T, tokens)
            self.training_tokens += len(tokens)

    def held_out_error(self, found: Tensor, wanted: Tensor) -> float:
        """Relative error of the held-out outputs with the weight ``found``: the root of tr(D H D^T) / tr(W H W^T); 0 of none."""
        whole = _energy(wanted, self.held_out).clamp_min(torch.finfo(torch.float32).tiny)
        return float((_energy(found - wanted, self.held_out) / whole).sqrt())


class ActivationStatistics:
    """
    Watches the inputs of linear layers, wherever their weights are at the time.

    First the ranges of all (`watch`), which tells as well which layers share an input. Then, on request, the moments of some
    layers at a time (`passes`, `collect`): a matrix of 12,288 features takes 0.6 GB.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        """:param layers: linear layers by name."""
        self.held_out = False
        """Whether the inputs that come now are to judge by, not to round by."""
        self.tokens: dict[str, int] = {}
        """How many inputs a layer had that were not held out."""
        self._layers = layers
        self._ranges: dict[str, Tensor] = {}
        self._leaders: dict[str, str] = {}
        self._last: tuple[str, Tensor | None] = ("", None)

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Note the range of each layer's inputs while this is open."""
        try:
            with _hooks(self._layers, self._note):
                yield
        finally:
            self._last = ("", None)

    def amax(self) -> dict[str, float]:
        """
        The largest absolute input of each layer that ran.

        :raises CheckpointError: it is NaN or infinity.
        """
        found = {name: float(value) for name, value in self._ranges.items()}
        for name, value in found.items():
            if not isfinite(value):
                raise CheckpointError(
                    "the model computes NaN or infinity, so there is nothing to calibrate by",
                    where=name,
                    hint="look at its images without quantization first",
                )
        return found

    def scales(self) -> dict[str, float]:
        """``input_scale`` for FP8, of each layer that had inputs other than zero: twice the range is E4M3's largest value."""
        return {name: amax * HEADROOM / E4M3_MAX for name, amax in self.amax().items() if amax}

    def well_known(self) -> list[str]:
        """The layers that had enough inputs, not only zeros, for their moments to be worth collecting."""
        return [
            name
            for name in self.scales()
            if self.tokens.get(name, 0) >= TOKENS_PER_FEATURE * self._features(name)
        ]

    def passes(self, layers: Iterable[str], budget: int) -> list[list[str]]:
        """
        Groups of layers whose matrices take at most ``budget`` bytes, or belong to one input; those of an input come together.
        """
        groups: list[list[str]] = []
        left = 0
        for leader, sharing in self._sharing(layers).items():
            size = 2 * 4 * self._features(leader) ** 2
            if size > left:
                groups.append([])
                left = budget
            groups[-1] += sharing
            left -= size
        return groups

    @contextmanager
    def collect(self, layers: Iterable[str]) -> Iterator[dict[str, Moments]]:
        """
        The moments of the inputs of layers that were watched; they grow while this is open. Layers that share an input share
        theirs. All memory is taken at the start.
        """
        sharing = self._sharing(layers)
        moments = {
            leader: Moments.zeros(self._features(leader), self._ranges[leader].device) for leader in sharing
        }

        def add(name: str, inputs: Tensor) -> None:
            moments[name].add(inputs.reshape(-1, inputs.shape[-1]), self.held_out)

        with _hooks({leader: self._layers[leader] for leader in sharing}, add):
            yield {name: moments[leader] for leader, names in sharing.items() for name in names}

    def _note(self, name: str, inputs: Tensor) -> None:
        low, high = inputs.detach().aminmax()
        range_ = torch.maximum(-low, high)
        self._ranges[name] = torch.maximum(self._ranges.get(name, range_), range_)
        if not self.held_out:
            self.tokens[name] = self.tokens.get(name, 0) + inputs.numel() // inputs.shape[-1]
        if self._last[1] is not inputs:
            self._last = (name, inputs)
        leader = self._last[0]
        self._leaders[name] = leader if self._leaders.get(name, leader) == leader else name

    def _sharing(self, layers: Iterable[str]) -> dict[str, list[str]]:
        """Layers by the first one of those that always had the same inputs."""
        found: dict[str, list[str]] = {}
        for name in layers:
            leader = self._leaders[name]
            same = self.tokens.get(leader) == self.tokens.get(name)
            found.setdefault(leader if same else name, []).append(name)
        return found

    def _features(self, layer: str) -> int:
        weight: Tensor = self._layers[layer].get_parameter("weight")
        return weight.shape[1]


@contextmanager
def _hooks(layers: Mapping[str, nn.Module], note: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call ``note`` with the name of a layer and its input before each forward."""
    with ExitStack() as stack:
        for name, layer in layers.items():

            def hook(_: nn.Module, args: tuple[Tensor, ...], name: str = name) -> None:
                note(name, args[0])

            stack.callback(layer.register_forward_pre_hook(hook).remove)
        yield


def _energy(weight: Tensor, moments: Tensor) -> Tensor:
    return ((weight @ moments) * weight).sum()
