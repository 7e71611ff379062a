"""Sampling only: ComfyUI's KSampler, a prompt at a time, against Row Guider and Row Noise with 1, 2, 4 and 8 rows.

Every variant comes once a round, after a run that is not timed, in which weights find their places. Runs in ComfyUI's folder
with ComfyUI's Python; options that are not known here are ComfyUI's.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import comfyui

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="bf16")
parser.add_argument("--left", type=float, nargs="+", default=[0, 8], help="GB of the card; 0: all of it")
parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8])
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--tiny", action="store_true", help="to try this on a CPU")
options, others = parser.parse_known_args()
comfyui.start(*others)

import torch  # noqa: E402
from card import Card  # noqa: E402
from comfy import sample, samplers  # noqa: E402
from ernie import EQUAL, LENGTHS, STEPS, TINY, conditioning, latents, model  # noqa: E402

from promptmill.sampling import RowGuider, RowNoise  # noqa: E402

SIZE = (128, 96) if options.tiny else ()
FEWEST = 2
"""Images of one timing."""

card = Card()
print(f"{card.name}; {card.link():.0f} GB/s from pinned memory to it")
patcher = model(options.model, **(TINY if options.tiny else {}))
mixed = [conditioning(row, length) for row, length in enumerate(LENGTHS)]
equal = [conditioning(row, EQUAL) for row in range(len(LENGTHS))]
negative = conditioning(99, 20)


def stock(row: int, steps: int) -> None:
    latent = latents(1, *SIZE)
    noise = sample.prepare_noise(latent, row)
    sample.sample(
        patcher,
        noise,
        steps,
        1.0,
        "euler",
        "simple",
        mixed[row],
        negative,
        latent,
        disable_pbar=True,
        seed=row,
    )
    comfyui.end_of_node()


def ours(rows: list[int], positive: list[list[list[object]]], steps: int) -> None:
    latent = latents(len(rows), *SIZE)
    guider = RowGuider(patcher, [positive[row] for row in rows], [negative] * len(rows), 1.0, rows)
    guider.sample(
        RowNoise(rows).generate_noise({"samples": latent}),
        latent,
        samplers.sampler_object("euler"),
        samplers.KSampler(patcher, steps, patcher.load_device, "euler", "simple").sigmas,
        disable_pbar=True,
        seed=rows[0],
    )
    comfyui.end_of_node()


def run(name: str, count: int, steps: int, images: int) -> None:
    for start in range(0, images, count):
        if name == "stock":
            stock(start, steps)
        else:
            ours(list(range(start, start + count)), equal if "equal" in name else mixed, steps)


variants = {"stock": 1}
for count in options.rows:
    variants |= (
        {f"{count} rows": 1} if count == 1 else {f"{count} rows": count, f"{count} rows, equal": count}
    )

with torch.inference_mode():
    for left in options.left:
        card.leave(left)
        print(f"{options.model}, {f'{left:.0f} GB left' if left else 'all of the card'}; ComfyUI {others}")
        times: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(options.rounds):
            for name, count in variants.items():
                images = max(count, FEWEST)
                run(name, count, STEPS if count == 1 else STEPS // 2, count)
                card.peak()
                card.wait()
                began = time.perf_counter()
                run(name, count, STEPS, images)
                card.wait()
                times[name].append((time.perf_counter() - began) / images)
                weights = patcher.loaded_size() / 2**30
                print(
                    f"  {name:14} {times[name][-1]:6.3f} s an image; PyTorch held {card.peak():5.2f} GB; "
                    f"{weights:5.2f} GB of weights loaded; {card.state_since(began)}",
                    flush=True,
                )
        for name, found in times.items():
            ratios = [a / b for a, b in zip(times["stock"], found, strict=True)]
            spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
            print(f"= {name:14} {median(found):6.3f} s an image, {median(ratios):5.3f} x stock ({spread})")
