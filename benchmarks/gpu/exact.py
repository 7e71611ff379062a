"""How far a row of a batch is from the row made alone by ComfyUI, on the card.

The most that a value of the latent differs, as a share of the largest value; beside it, what another prompt changes. Runs in ComfyUI's folder with ComfyUI's Python;
options that are not known here are ComfyUI's.
"""

from __future__ import annotations

import argparse
from typing import Any

import comfyui

parser = argparse.ArgumentParser()
parser.add_argument("--tiny", action="store_true", help="to try this on a CPU")
options, others = parser.parse_known_args()
comfyui.start(*others)

import torch  # noqa: E402
from comfy import sample, samplers  # noqa: E402
from ernie import EQUAL, LENGTHS, STEPS, TINY, conditioning, latents, model  # noqa: E402

from promptmill.sampling import RowGuider, RowNoise  # noqa: E402

torch.backends.cudnn.allow_tf32 = False
SIZE = (128, 96) if options.tiny else ()
ROWS = [0, 1, 2, 3]
Conditioning = list[list[Any]]
negatives = [conditioning(50 + row, 20 + 7 * row) for row in ROWS]


def batch(rows: list[int], positive: list[Conditioning], cfg: float) -> torch.Tensor:
    latent = latents(len(rows), *SIZE)
    guider = RowGuider(patcher, positive, [negatives[row] for row in rows], cfg, rows)
    found = guider.sample(
        RowNoise(rows).generate_noise({"samples": latent}),
        latent,
        samplers.sampler_object("euler"),
        samplers.KSampler(patcher, STEPS, patcher.load_device, "euler", "simple").sigmas,
        disable_pbar=True,
        seed=rows[0],
    )
    comfyui.end_of_node()
    return found.cpu()


def alone(row: int, positive: Conditioning, cfg: float) -> torch.Tensor:
    latent = latents(1, *SIZE)
    noise = sample.prepare_noise(latent, row)
    given = (STEPS, cfg, "euler", "simple", positive, negatives[row], latent)
    found = sample.sample(patcher, noise, *given, disable_pbar=True, seed=row)
    comfyui.end_of_node()
    return found


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


def compare(lengths: tuple[int, ...], cfg: float, rows: list[int]) -> float:
    positive = [conditioning(row, lengths[row]) for row in rows]
    made = batch(rows, positive, cfg).split(1)
    return max(apart(one, alone(row, text, cfg)) for one, row, text in zip(made, rows, positive, strict=True))


for kind, name, config in (
    ("fp32", "fp32, 2 of 36 layers", {"num_layers": 2}),
    ("bf16", "bf16, 2 of 36 layers", {"num_layers": 2}),
    ("bf16", "bf16", {}),
):
    patcher = model(kind, **(TINY if options.tiny else config))
    with torch.inference_mode():
        for cfg in (1.0, 3.0):
            figures = [
                compare(LENGTHS, cfg, [0]),
                compare((EQUAL,) * len(ROWS), cfg, ROWS),
                compare(LENGTHS, cfg, ROWS),
                apart(*(alone(0, conditioning(number, EQUAL), cfg) for number in (0, 1))),
            ]
            line = "one row {:.1e}, equal lengths {:.1e}, different lengths {:.1e}; another prompt {:.1e}"
            print(f"  {name}, cfg {cfg:.0f}: {line.format(*figures)}", flush=True)
