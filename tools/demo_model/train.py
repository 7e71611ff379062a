"""
Train the demo checkpoint from nothing but drawings, on one GPU in about ten minutes.

    python -m promptmill.tools.demo_model.train OUT [--images N] [--minutes AUTOENCODER MODEL JUDGE]

writes autoencoder.safetensors, transformer.safetensors, words.safetensors, judge.safetensors and report.json into OUT;
``python -m promptmill.tools.demo_model.pack OUT`` makes the shipped file of them.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ...driver.engine.models.sd3 import new_autoencoder
from ...driver.engine.models.text import Vocabulary
from . import networks
from .data import CAPTIONS, pictures
from .scenes import BACKGROUNDS, COLOURS, OBJECTS, Scene, is_held_out, random_scene

VOCABULARY = Vocabulary(json.loads((Path(__file__).parent / "words.json").read_text()))
INDEX = {token: index for index, token in enumerate(VOCABULARY.all_ids())}
EMPTY = 0.08  # share of captions replaced by the empty prompt
ZEROED = 0.04  # and by zeros, as ConditioningZeroOut makes them
SHIFT = 3.0  # SD3's, which ComfyUI samples with


class Clock:
    """Lasts for some minutes; ``share`` tells how much of them is over."""

    def __init__(self, minutes: float) -> None:
        self.start, self.seconds = time.monotonic(), minutes * 60

    @property
    def share(self) -> float:
        return min(1.0, (time.monotonic() - self.start) / self.seconds)

    def steps(self) -> Iterator[int]:
        step = 0
        while self.share < 1:
            yield step
            step += 1


def rate(peak: float, share: float, warm: float = 0.03) -> float:
    """Warm up linearly, then fall as a cosine to a hundredth."""
    if share < warm:
        return peak * share / warm
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (share - warm) / (1 - warm))))


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


def batch(pixels: Tensor, size: int) -> Tensor:
    """A random batch [size, 3, H, W] in -1..1."""
    some = pixels[torch.randint(len(pixels), (size,), device=pixels.device)]
    return some.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def train_autoencoder(pixels: Tensor, minutes: float, log: dict[str, Any]) -> nn.Module:
    model = new_autoencoder().cuda().to(memory_format=torch.channels_last)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, betas=(0.9, 0.99))
    encode, decode = torch.compile(model.encoder), torch.compile(model.decoder)
    clock = Clock(minutes)
    for step in clock.steps():
        set_rate(optimizer, rate(1.5e-3, clock.share))
        real = batch(pixels, 128).to(memory_format=torch.channels_last)
        with torch.autocast("cuda", torch.bfloat16):
            latent = encode(real).float()
            noisy = latent + 0.05 * torch.randn_like(latent)
            made = decode(noisy).float()
        difference = made - real
        edges = sum((torch.diff(made, dim=d) - torch.diff(real, dim=d)).abs().mean() for d in (2, 3))
        coarse = F.avg_pool2d(difference, 4).abs().mean()
        spread = latent.std((0, 2, 3)).log().square().mean() + latent.mean((0, 2, 3)).square().mean()
        loss = difference.abs().mean() + difference.square().mean() + 0.5 * edges + coarse + 0.02 * spread
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for mine, its in zip(average.parameters(), model.parameters(), strict=True):
                mine.lerp_(its, min(0.005, 10 / (step + 20)) if step > 10 else 1.0)
        if step % 500 == 0:
            print(
                f"autoencoder {step} {loss.item():.4f} {20 * math.log10(2) - 10 * math.log10(difference.square().mean().item()):.2f} dB",
                flush=True,
            )
    log["autoencoder_steps"] = step
    return average.eval()


def psnr(model: nn.Module, pixels: Tensor) -> float:
    real = pixels.permute(0, 3, 1, 2).float().div(127.5).sub(1)
    with torch.no_grad():
        error = (model.decoder(model.encoder(real)).clamp(-1, 1) - real).square().mean().item()
    return 10 * math.log10(4 / error)


def encode_all(model: nn.Module, pixels: Tensor) -> Tensor:
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        return torch.cat(
            [
                model.encoder(part.permute(0, 3, 1, 2).float().div(127.5).sub(1)).half()
                for part in pixels.split(512)
            ]
        )


def token_indices(captions: list[list[str]]) -> Tensor:
    """Captions of each picture to indices [N, CAPTIONS, 77] into the embedding."""
    known: dict[str, list[int]] = {}

    def indices(text: str) -> list[int]:
        if text not in known:
            known[text] = [INDEX[token] for token in VOCABULARY.tokens(text)]
        return known[text]

    return torch.tensor([[indices(text) for text in some] for some in captions], dtype=torch.uint8)


class Denoiser(nn.Module):
    """Transformer and word embeddings, trained together."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.transformer = networks.transformer(heads)
        self.words = networks.Words(len(INDEX))
        nn.init.zeros_(self.transformer.proj_out.weight)
        nn.init.zeros_(self.transformer.proj_out.bias)
        for block in self.transformer.transformer_blocks:
            for norm in (block.norm1, block.norm1_context):
                nn.init.zeros_(norm.linear.weight)
                nn.init.zeros_(norm.linear.bias)

    def forward(self, latent: Tensor, sigma: Tensor, tokens: Tensor, zeroed: Tensor) -> Tensor:
        context = self.words(tokens) * ~zeroed[:, None, None]
        pooled = latent.new_zeros(len(latent), 2048)
        return self.transformer(latent, context, pooled, sigma * 1000, return_dict=False)[0]


def train_model(
    sets: list[tuple[Tensor, Tensor, float, int]],
    heads: int,
    minutes: float,
    log: dict[str, Any],
    start: Path | None,
) -> Denoiser:
    """:param sets: latents, token indices, share of the steps and batch size for each picture size."""
    model = Denoiser(heads).cuda()
    if start:
        model.transformer.load_state_dict(load_file(start / "transformer.safetensors"))
        model.words.load_state_dict(load_file(start / "words.safetensors"))
        model.float()
    average = copy.deepcopy(model)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
        fused=True,
    )
    compiled = torch.compile(model)
    empty = torch.tensor([INDEX[token] for token in VOCABULARY.tokens("")], device="cuda")
    rng = random.Random(1)
    clock = Clock(minutes)
    losses: list[Tensor] = []
    for step in clock.steps():
        set_rate(optimizer, rate(1.2e-3 if start is None else 8e-4, clock.share))
        latents, tokens, _, size = rng.choices(sets, [one[2] for one in sets])[0]
        some = torch.randint(len(latents), (size,), device="cuda")
        clean = latents[some].float()
        text = tokens[some, torch.randint(CAPTIONS, (size,), device="cuda")].int()
        dropped = torch.rand(size, device="cuda")
        text = torch.where((dropped < EMPTY)[:, None], empty.int(), text)
        zeroed = dropped > 1 - ZEROED
        u = torch.rand(size, device="cuda")
        shift = torch.where(torch.rand(size, device="cuda") < 0.6, SHIFT, 1.0)
        sigma = shift * u / (1 + (shift - 1) * u)
        noise = torch.randn_like(clean)
        level = sigma[:, None, None, None]
        with torch.autocast("cuda", torch.bfloat16):
            velocity = compiled((1 - level) * clean + level * noise, sigma, text, zeroed)
        loss = (velocity.float() - (noise - clean)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            weight = 1.0 if step < 50 else max(0.001, 10 / (step + 20))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), weight)
        losses.append(loss.detach())
        if step % 500 == 499:
            print(f"model {step + 1} {torch.stack(losses[-500:]).mean().item():.4f}", flush=True)
    log["model_steps"], log["model_loss"] = step, torch.stack(losses[-500:]).mean().item()
    return average.eval()


@torch.no_grad()
def sample(model: Denoiser, captions: list[str], size: int, steps: int, cfg: float) -> Tensor:
    """Euler over SD3's ``simple`` sigmas; latents [B, 16, size / 8, size / 8]."""
    tokens = token_indices([[text] for text in captions])[:, 0].cuda().int()
    empty = token_indices([[""]])[:, 0].cuda().int().expand_as(tokens)
    t = torch.linspace(1, 0, steps + 1)
    sigmas = SHIFT * t / (1 + (SHIFT - 1) * t)
    x = torch.randn(
        len(captions), networks.LATENT, size // 8, size // 8, generator=torch.manual_seed(3)
    ).cuda()
    never = torch.zeros(2 * len(captions), dtype=torch.bool, device="cuda")
    for now, then in pairwise(sigmas):
        both = model(x.repeat(2, 1, 1, 1), now.cuda().expand(2 * len(x)), torch.cat([tokens, empty]), never)
        told, untold = both.chunk(2)
        x = x + (untold + cfg * (told - untold)) * (then - now)
    return x


CLASSES = {"object": len(OBJECTS), "colour": len(COLOURS), "background": len(BACKGROUNDS)}


def answers(scenes: list[Scene]) -> dict[str, Tensor]:
    """What the judge should say."""
    return {
        "object": torch.tensor([list(OBJECTS).index(one.object) for one in scenes]),
        "colour": torch.tensor([list(COLOURS).index(one.colour) for one in scenes]),
        "background": torch.tensor([list(BACKGROUNDS).index(one.background) for one in scenes]),
    }


def train_judge(pixels: Tensor, truth: dict[str, Tensor], minutes: float, log: dict[str, Any]) -> nn.Module:
    judge = networks.Judge(CLASSES).cuda()
    optimizer = torch.optim.AdamW(judge.parameters(), weight_decay=0.05)
    clock = Clock(minutes)
    for step in clock.steps():  # noqa: B007 - how many it were is told
        set_rate(optimizer, rate(2e-3, clock.share))
        some = torch.randint(len(pixels), (256,), device="cuda")
        real = pixels[some].permute(0, 3, 1, 2).float().div(255)
        real = real + torch.rand(256, 1, 1, 1, device="cuda") * 0.06 * torch.randn_like(real)
        real = F.pad(real, (6, 6, 6, 6), mode="replicate")
        left, top = (int(value) for value in torch.randint(13, (2,)))
        loss = sum(
            F.cross_entropy(logits, truth[name][some], label_smoothing=0.02)
            for name, logits in judge(real[:, :, top : top + 128, left : left + 128]).items()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    log["judge_steps"] = step
    return judge.eval()


@torch.no_grad()
def right(judge: nn.Module, pixels: Tensor, truth: dict[str, Tensor]) -> dict[str, float]:
    """The share of right answers to each question, and to all three; pixels [B, 3, 128, 128] in 0..1."""
    hits = {name: logits.argmax(1) == truth[name].to(logits.device) for name, logits in judge(pixels).items()}
    hits["all"] = torch.stack(list(hits.values())).all(0)
    return {name: hit.float().mean().item() for name, hit in hits.items()}


def any_scene(rng: random.Random) -> Scene:
    """Any pair, for the judge."""
    return random_scene(rng, held_out=rng.random() < 0.15)


def unseen_scene(rng: random.Random) -> Scene:
    """A pair that training never saw."""
    return random_scene(rng, held_out=True)


def main() -> None:
    """Draw, train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=150_000)
    parser.add_argument("--minutes", type=float, nargs=3, default=(2, 5.5, 0.5))
    parser.add_argument("--heads", type=int, default=networks.HEADS)
    parser.add_argument("--start", type=Path, help="go on from an earlier OUT")
    options = parser.parse_args()
    log: dict[str, Any] = {"images": options.images, "heads": options.heads}
    torch.set_float32_matmul_precision("high")
    began = time.monotonic()

    def said(text: str) -> None:
        print(f"[{time.monotonic() - began:.0f} s] {text}", flush=True)

    small, small_captions, _ = pictures(options.images, 128, 1)
    large, large_captions, _ = pictures(options.images // 4, 192, 2)
    judged, _, judged_scenes = pictures(options.images // 5, 128, 3, any_scene)
    unseen, unseen_captions, unseen_scenes = pictures(512, 128, 4, unseen_scene)
    assert all(is_held_out(one.object, one.colour) for one in unseen_scenes)
    said("drawn")
    small_pixels, large_pixels = (torch.from_numpy(one).cuda() for one in (small, large))
    unseen_pixels = torch.from_numpy(unseen).cuda()

    if options.start:
        coder = new_autoencoder().cuda()
        coder.load_state_dict(load_file(options.start / "autoencoder.safetensors"))
        coder.float().eval()
    else:
        coder = train_autoencoder(small_pixels, options.minutes[0], log)
    log["autoencoder_psnr"] = psnr(coder, unseen_pixels)
    said(f"autoencoder: {log}")

    judge = train_judge(
        torch.from_numpy(judged).cuda(),
        {name: one.cuda() for name, one in answers(judged_scenes).items()},
        options.minutes[2],
        log,
    )
    seen_pixels = unseen_pixels.permute(0, 3, 1, 2).float().div(255)
    log["judge_on_drawings"] = right(judge, seen_pixels, answers(unseen_scenes))
    said(f"judge: {log}")

    latents = [encode_all(coder, one) for one in (small_pixels, large_pixels)]
    log["latent_std"], log["latent_mean"] = latents[0].float().std().item(), latents[0].float().mean().item()
    sets = [
        (latents[0], token_indices(small_captions).cuda(), 0.7, 1024),
        (latents[1], token_indices(large_captions).cuda(), 0.3, 512),
    ]
    said("encoded")
    model = train_model(sets, options.heads, options.minutes[1], log, options.start)
    said(f"model: {log}")

    full = [some[0] for some in unseen_captions]
    sheet = []
    for cfg in (1.0, 2.0, 3.0, 4.0, 6.0):
        made = coder.decoder(sample(model, full, 128, 8, cfg)).clamp(-1, 1).add(1).div(2)
        log[f"right_cfg_{cfg:g}"] = right(judge, made, answers(unseen_scenes))
        sheet.append(made[:24])
        said(f"cfg {cfg:g}: {log[f'right_cfg_{cfg:g}']}")

    options.out.mkdir(parents=True, exist_ok=True)
    from PIL import Image

    rows = torch.cat([seen_pixels[:24], *sheet]).permute(0, 2, 3, 1).mul(255).round().byte().cpu().numpy()
    grid = rows.reshape(-1, 12, 128, 128, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 12 * 128, 3)
    Image.fromarray(np.ascontiguousarray(grid)).save(options.out / "sheet.png")
    parts = {"autoencoder": coder, "transformer": model.transformer, "words": model.words, "judge": judge}
    for name, part in parts.items():
        tensors = {key: value.half().contiguous().cpu() for key, value in part.state_dict().items()}
        save_file(tensors, options.out / f"{name}.safetensors")
    (options.out / "report.json").write_text(json.dumps(log, indent=1))
    said("written")


if __name__ == "__main__":
    main()
