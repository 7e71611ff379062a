"""What Hessian rounding is worth on synthetic matrices: error of a layer's output, with its activations in INT8 as well.

Weights and inputs are Gaussian; or weights are Student's t with strong columns, and inputs have strong channels, or tokens with
single large values. The Hessian is of 8 tokens for each feature, half as many are held out, and the errors are of 512 further ones.

usage: python benchmarks/rounding.py [--features 4096]
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from promptmill.quantization.calibration import TOKENS_PER_FEATURE, Moments
from promptmill.quantization.formats import FORMATS, Quantized, relative_error
from promptmill.quantization.gptq import round_by_hessian

TOKENS = 512
INT8 = FORMATS["int8"]


class Layer:
    def __init__(self, kind: str, features: int) -> None:
        self.kind = kind
        self.weight = torch.randn(features, features) * 0.02
        if kind != "gauss":
            self.weight = torch.distributions.StudentT(4.0).sample((features, features)) * 0.02
            self.weight[:, torch.randperm(features)[: features // 200]] *= 4
        self.special = torch.randperm(features)[: features // 100 if kind == "channels" else 4]

    def inputs(self, tokens: int) -> Tensor:
        x = torch.randn(tokens, len(self.weight))
        if self.kind == "channels":
            x[:, self.special] *= 30
        if self.kind == "massive":
            x[torch.randperm(tokens)[: tokens // 64, None], self.special] = 2000.0
        return x

    def moments(self) -> Moments:
        moments = Moments.zeros(len(self.weight))
        for number in range(TOKENS_PER_FEATURE * 3 // 2):
            moments.add(self.inputs(len(self.weight)), held_out=number >= TOKENS_PER_FEATURE)
        return moments


def error(quantized: Quantized, weight: Tensor, x: Tensor) -> float:
    """In %."""
    tensors, group = quantized.tensors, quantized.config["convrot_groupsize"]
    output = torch.ops.comfy_kitchen.int8_linear(
        x, tensors["weight"], tensors["weight_scale"], None, 0, True, group
    )
    return 100 * relative_error(output, x @ weight.T)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", type=int, default=4096)
    features = parser.parse_args().features
    torch.manual_seed(0)
    for kind in ("gauss", "channels", "massive"):
        layer = Layer(kind, features)
        found = round_by_hessian(INT8, layer.weight, layer.moments())
        x = layer.inputs(TOKENS)
        nearest = error(INT8.quantize(layer.weight), layer.weight, x)
        kept = f"{error(found.quantized, layer.weight, x):.2f} %" if found.quantized else "not kept"
        print(
            f"{kind:9} to the nearest {nearest:.2f} %, Hessian {kept}; "
            f"held out, of the weight alone: {found.nearest:.2%} -> {found.hessian:.2%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
