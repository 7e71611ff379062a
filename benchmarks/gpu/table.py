"""Whole tables: ComfyUI's own nodes (KSampler, VAE Decode, Save Image), a prompt at a time, against Sample Table.

Sample Table as it is; with saving in its loop; with no saving at all, which shows what the saving costs; and with accelerated
models, whose weights are those of the others in FP8 or INT8.

Every way comes once a round. The text encoder is left out on both sides: it gives random conditionings of some lengths. Runs in
ComfyUI's folder with ComfyUI's Python; options that are not known here are ComfyUI's.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from statistics import median
from types import SimpleNamespace
from typing import Any

import comfyui

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="bf16")
parser.add_argument("--left", type=float, nargs="+", default=[0, 8], help="GB of the card; 0: all of it")
parser.add_argument("--rows-per-batch", type=int, default=4)
parser.add_argument("--images", type=int, default=12)
parser.add_argument("--rounds", type=int, default=2)
parser.add_argument("--accelerated", nargs="+", default=[], choices=("fp8", "int8"))
parser.add_argument("--only", nargs="+", help="of the ways that are printed")
parser.add_argument("--tiny", action="store_true", help="to try this on a CPU")
options, others = parser.parse_known_args()
comfyui.start(*others)

import server  # noqa: E402
import torch  # noqa: E402
from card import Card  # noqa: E402
from comfy_api.latest import io  # noqa: E402
from ernie import HEIGHT, LENGTHS, STEPS, TINY, WIDTH, conditioning, latents, model, vae  # noqa: E402
from quantized import models  # noqa: E402

import nodes  # noqa: E402
from promptmill.nodes import sample_table  # noqa: E402
from promptmill.nodes.prompt_table import NO_FILE, read_table  # noqa: E402
from promptmill.nodes.save_ahead import SaveAhead  # noqa: E402
from promptmill.sampling.accelerate import accelerate  # noqa: E402

SIZE = (128, 96) if options.tiny else (WIDTH, HEIGHT)


class Texts:
    """A CLIP: text "n" is the n-th of LENGTHS."""

    def tokenize(self, text: str) -> dict[str, Any]:
        return {"number": int(text or 0)}

    def encode_from_tokens_scheduled(self, tokens: dict[str, Any]) -> list[list[Any]]:
        number = tokens["number"]
        return conditioning(number, LENGTHS[number % len(LENGTHS)])


class Timed(SaveAhead):
    """As it is, with how long the thread that samples ``waited`` for an image, and after the last one for all (``ended``)."""

    waited: list[float] = []  # noqa: RUF012
    ended: list[float] = []  # noqa: RUF012
    saved: list[float] = []  # noqa: RUF012

    def __init__(self, save: Any) -> None:
        super().__init__(lambda *image: timed(self.saved, save, *image))

    def put(self, *image: Any) -> None:
        timed(self.waited, super().put, *image)

    def __exit__(self, *error: Any) -> None:
        timed(self.ended, super().__exit__, *error)


class InTheLoop(Timed):
    def put(self, *image: Any) -> None:
        timed(self.waited, self._save, *image)


class Nowhere(Timed):
    def put(self, *image: Any) -> None:
        timed(self.waited, lambda: None)


def timed(times: list[float], do: Any, *given: Any) -> None:
    began = time.perf_counter()
    do(*given)
    times.append(time.perf_counter() - began)


def stock(name: str) -> None:
    clip = Texts()
    for number in range(options.images):
        positive = clip.encode_from_tokens_scheduled({"number": number})
        latent = {"samples": latents(1, *SIZE)}
        sampled = nodes.common_ksampler(
            patcher, number, STEPS, 1.0, "euler", "simple", positive, negative, latent
        )[0]
        comfyui.end_of_node()
        image = nodes.VAEDecode().decode(autoencoder, sampled)[0]
        comfyui.end_of_node()
        timed(Timed.saved, nodes.SaveImage().save_images, image, name)
        comfyui.end_of_node()


def ours(name: str, saving: type[SaveAhead], kind: str = "") -> None:
    lines = "\n".join(map(str, range(options.images)))
    blank = dict.fromkeys(("negative", "file_name", "rows", "filter"), "")
    table = read_table(
        file=NO_FILE,
        text=lines,
        prompt="{prompt}",
        folder=name,
        variants=1,
        base_seed=0,
        encoding="auto",
        **blank,
    )
    sample_table.SaveAhead = saving
    node = sample_table.SampleTable.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.unique_id: "1"}})
    node.execute(
        table,
        STEPS,
        1.0,
        "euler",
        "simple",
        *SIZE,
        options.rows_per_batch,
        "skip",
        model=accelerated[kind] if kind else patcher,
        clip=Texts(),
        vae=autoencoder,
    )
    comfyui.end_of_node()


server.PromptServer.instance = SimpleNamespace(send_progress_text=lambda *_: None, client_id=None)
card = Card()
with torch.inference_mode():
    made = (
        models([options.model, *options.accelerated], options.tiny, on_card=False)
        if options.accelerated
        else {}
    )
accelerated = {kind: accelerate(made[kind]) for kind in options.accelerated}
patcher = made.get(options.model) or model(options.model, **(TINY if options.tiny else {}))
autoencoder = vae()
negative = conditioning(99, 20)
ways: dict[str, Any] = {
    "stock": stock,
    "Sample Table": lambda name: ours(name, Timed),
    "saving in its loop": lambda name: ours(name, InTheLoop),
    "without saving": lambda name: ours(name, Nowhere),
}
ways |= {f"{kind} accelerated": partial(ours, saving=Timed, kind=kind) for kind in accelerated}
ways = {name: way for name, way in ways.items() if name in (options.only or ways)}
with torch.inference_mode():
    for left in options.left:
        card.leave(left)
        stock(f"first-{left}")
        for kind in accelerated:  # compiles
            ours(f"first-{kind}-{left}", Timed, kind)
        print(f"{options.model}, {f'{left:.0f} GB left' if left else 'all of the card'}; ComfyUI {others}")
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(options.rounds):
            for name, way in ways.items():
                for seen in (Timed.waited, Timed.ended, Timed.saved):
                    seen.clear()
                began = time.perf_counter()
                way(f"{name}-{left}-{number}")
                times[name].append((time.perf_counter() - began) / options.images)
                waited, saved = 1000 * max(Timed.waited, default=0), 1000 * median(Timed.saved or [0])
                print(
                    f"  {name:18} {times[name][-1]:6.3f} s an image; waited for saving {1000 * sum(Timed.waited):6.1f} ms in all, "
                    f"{waited:5.1f} at most; at the end {1000 * sum(Timed.ended):4.0f}; saving took {saved:4.0f} ms an image; "
                    f"{card.state_since(began)}",
                    flush=True,
                )
        for name, found in times.items():
            ratios = [a / b for a, b in zip(times["stock"], found, strict=True)]
            print(f"= {name:18} {median(found):6.3f} s an image, {median(ratios):5.3f} x stock")
