"""Given linear layers at work, expect what their inputs were like: exactly, shared where shared, and no hook left."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from promptmill.errors import CheckpointError
from promptmill.quantization.calibration import ActivationStatistics


class Block(nn.Module):
    """As in a transformer: three layers on one input, one on what they give, and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.out = nn.Linear(8, 4)
        self.unused = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(self.q(x) * self.k(x) + self.v(x))
        return result


@pytest.fixture
def block() -> Block:
    torch.manual_seed(0)
    return Block().requires_grad_(False)


@pytest.fixture
def layers(block: Block) -> dict[str, nn.Module]:
    return {name: module for name, module in block.named_modules() if isinstance(module, nn.Linear)}


@pytest.fixture
def statistics(layers: dict[str, nn.Module]) -> ActivationStatistics:
    return ActivationStatistics(layers)


def hooks_of(layers: dict[str, nn.Module]) -> list[Any]:
    return [hook for layer in layers.values() for hook in layer._forward_pre_hooks.values()]


def test_the_range_is_the_largest_of_all_inputs_held_out_or_not(
    block: Block, statistics: ActivationStatistics
) -> None:
    with statistics.watch():
        block(torch.tensor([[1.0] * 7 + [-5.0]]))
        block(torch.ones(2, 3, 8))
        statistics.held_out = True
        block(torch.full((4, 8), 3.0))

    assert statistics.amax()["q"] == 5.0
    assert statistics.scales()["q"] == 5.0 * 2 / 448
    assert statistics.tokens == {"q": 7, "k": 7, "v": 7, "out": 7}
    block(torch.full((1, 8), 100.0))
    assert statistics.amax()["q"] == 5.0, "what comes later is not looked at"


def test_layers_without_inputs_have_no_scale(block: Block, statistics: ActivationStatistics) -> None:
    with statistics.watch():
        block(torch.zeros(2, 8))

    assert statistics.amax()["q"] == 0.0
    assert statistics.scales().keys() == {"out"}, "which has what the biases give"


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_what_is_not_a_number_is_told_with_the_layer(
    block: Block, statistics: ActivationStatistics, bad: float
) -> None:
    with statistics.watch():
        block(torch.tensor([[bad, *[1.0] * 7]]))

    with pytest.raises(CheckpointError, match="q: the model computes NaN"):
        statistics.scales()


def test_moments_are_of_all_inputs_and_held_out_ones_apart(
    block: Block, statistics: ActivationStatistics
) -> None:
    training, held_out = torch.randn(3, 5, 8), torch.randn(4, 8)
    with statistics.watch():
        block(training)

    with statistics.collect(["q", "k", "v", "out"]) as moments:
        block(training[:1])
        block(training[1:])
        statistics.held_out = True
        block(held_out)

    flat = training.reshape(-1, 8)
    torch.testing.assert_close(moments["q"].training, flat.T @ flat)
    torch.testing.assert_close(moments["q"].held_out, held_out.T @ held_out)
    assert (moments["q"].training_tokens, moments["q"].held_out_tokens) == (15, 4)
    inputs = block.q(flat) * block.k(flat) + block.v(flat)
    torch.testing.assert_close(moments["out"].training, inputs.T @ inputs)


def test_layers_of_one_input_share_its_moments(block: Block, statistics: ActivationStatistics) -> None:
    with statistics.watch():
        block(torch.randn(3, 8))

    with statistics.collect(["v", "q", "k", "out"]) as moments:
        block(torch.randn(3, 8))

    assert moments["q"] is moments["k"] is moments["v"]
    assert moments["out"] is not moments["q"]
    assert moments["q"].training_tokens == 3, "counted once"
    with statistics.collect(["k"]) as moments:
        block(torch.randn(3, 8))
    assert moments.keys() == {"k"}
    assert moments["k"].training_tokens == 3


def test_layers_that_sometimes_have_inputs_of_their_own_do_not_share(
    block: Block, statistics: ActivationStatistics
) -> None:
    with statistics.watch():
        block.v(torch.randn(2, 8))
        block(torch.randn(3, 8))
        block.q(torch.randn(2, 8))

    with statistics.collect(["q", "k", "v"]) as moments:
        pass

    assert len({id(each) for each in moments.values()}) == 3


def test_passes_keep_to_the_budget_and_shared_inputs_together(
    block: Block, statistics: ActivationStatistics
) -> None:
    with statistics.watch():
        block(torch.randn(3, 8))
    matrices = 2 * 8 * 8 * 4
    names = ["q", "out", "k", "v"]

    assert statistics.passes(names, 2 * matrices) == [["q", "k", "v", "out"]]
    assert statistics.passes(names, 2 * matrices - 1) == [["q", "k", "v"], ["out"]]
    assert statistics.passes(names, 0) == [["q", "k", "v"], ["out"]], "one input at least"
    assert statistics.passes([], 0) == []


def test_moments_of_few_inputs_are_not_worth_collecting(
    block: Block, statistics: ActivationStatistics
) -> None:
    with statistics.watch():
        block(torch.randn(8 * 8, 8))
        block.v(torch.randn(1, 8))
        statistics.held_out = True
        block(torch.randn(8, 8))
    assert statistics.well_known() == ["q", "k", "v", "out"]

    fewer = ActivationStatistics({"q": block.q, "v": block.v})
    with fewer.watch():
        block(torch.randn(8 * 8 - 1, 8))
        block.v(torch.randn(1, 8))
    assert fewer.well_known() == ["v"]

    zeros = ActivationStatistics({"q": block.q})
    with zeros.watch():
        block(torch.zeros(8 * 8, 8))
    assert zeros.well_known() == []


@pytest.mark.parametrize("way", ["watch", "collect"])
def test_no_hook_is_left_whatever_happens(
    block: Block, layers: dict[str, nn.Module], statistics: ActivationStatistics, way: str
) -> None:
    with statistics.watch():
        block(torch.randn(3, 8))

    def interrupted() -> None:
        with statistics.watch() if way == "watch" else statistics.collect(["q"]):
            assert hooks_of(layers)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert not hooks_of(layers)


def test_inputs_of_gradients_and_of_inference_are_both_taken(
    block: Block, statistics: ActivationStatistics
) -> None:
    x = torch.randn(3, 8, requires_grad=True)
    with torch.inference_mode(), statistics.watch(), statistics.collect([]):
        block(x)
    with statistics.collect(["q"]) as moments:
        block(x)
        with torch.inference_mode():
            block(x)

    assert moments["q"].training_tokens == 6
