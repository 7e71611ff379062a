"""Find the usual inputs by walking back from the samplers: prompt, negative, seed, size ..."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .flow import Flow
from .schema import Target

SEEDS = ("seed", "noise_seed")
LATENT_INPUTS = ("latent_image", "latent", "latents", "samples")
POSITIVE = ("positive", "conditioning", "cond1")
SIZE = ("width", "height")


def automatic(flow: Flow, starts: Iterable[str]) -> dict[str, tuple[Target, ...]]:
    """The inputs that each role drives, for the samplers upstream of ``starts``; roles without any are absent."""
    samplers = [node_id for node_id in reversed(flow.upstream(starts)) if _is_sampler(flow, node_id)]
    roles: dict[str, dict[Target, None]] = {
        role: {} for role in ("prompt", "negative", "seed", "steps", "cfg", *SIZE, "batch_size", "denoise")
    }

    def add(role: str, found: Iterable[Target | None]) -> None:
        roles[role].update((target, None) for target in found if target)

    for sampler in samplers:
        guiders = _origins(flow, sampler, ("guider",)) or [sampler]
        schedules = list(flow.chain(sampler, ("sigmas",), "SIGMAS"))
        for guider in guiders:
            add("prompt", _texts(flow, guider, _wired(flow, guider, POSITIVE)[:1], "positive"))
            add("negative", _texts(flow, guider, _wired(flow, guider, ("negative",)), "negative"))
            add("cfg", (flow.holder(guider, name) for name in ("cfg", "cfg_conds")))
        for node_id in [*_origins(flow, sampler, ("noise",)), sampler]:
            add("seed", (flow.holder(node_id, name) for name in SEEDS))
        for role in ("steps", "denoise"):
            add(role, (flow.holder(node_id, role) for node_id in [sampler, *schedules]))
        for latent in _latent_sources(flow, sampler):
            models = flow.chain(guiders[0], ("model",), "MODEL")
            for role in SIZE:
                add(role, (flow.holder(node_id, role) for node_id in [latent]))
            add("batch_size", [flow.holder(latent, "batch_size")])
            if roles["width"]:
                for node_id in (*schedules, *models):
                    if all(role in flow.api[node_id]["inputs"] for role in SIZE):
                        for role in SIZE:
                            add(role, [flow.holder(node_id, role)])
    for target in roles["prompt"]:
        roles["negative"].pop(target, None)
    return {role: tuple(targets) for role, targets in roles.items() if targets}


def _is_sampler(flow: Flow, node_id: str) -> bool:
    inputs = flow.api[node_id]["inputs"]
    conditioned = bool(_wired(flow, node_id, ("positive", "guider")))
    drawn = any(name in inputs for name in (*SEEDS, "noise"))
    return conditioned and drawn and "CONDITIONING" not in flow.outputs(node_id)


def _wired(flow: Flow, node_id: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if flow.source(node_id, name)]


def _origins(flow: Flow, node_id: str, names: Iterable[str]) -> list[str]:
    return [origin[0] for name in names if (origin := flow.source(node_id, name))]


def _latent_sources(flow: Flow, sampler: str) -> Iterator[str]:
    for node_id in flow.chain(sampler, LATENT_INPUTS[:3], "LATENT"):
        if not flow.of_type(node_id, "LATENT"):
            yield node_id


def _texts(flow: Flow, node_id: str, names: Iterable[str], polarity: str) -> Iterator[Target | None]:
    for name in names:
        origin = flow.source(node_id, name)
        if origin is None or flow.api[origin[0]]["class_type"] == "ConditioningZeroOut":
            continue
        encoder, slot = origin
        through = flow.of_type(encoder, "CONDITIONING")
        if through:
            side = _side(flow, encoder, slot, polarity)
            yield from _texts(flow, encoder, [side] if side in through else through, polarity)
        else:
            for text in _text_inputs(flow, encoder, polarity):
                yield flow.text(encoder, text)


def _side(flow: Flow, node_id: str, slot: int, polarity: str) -> str:
    """A node that passes both sides on names its outputs ``positive`` and ``negative``."""
    names = flow.object_info[flow.api[node_id]["class_type"]]["output_name"]
    name: str = names[slot].lower() if slot < len(names) else polarity
    return name if name in ("positive", "negative") else polarity


def _text_inputs(flow: Flow, encoder: str, polarity: str) -> list[str]:
    texts = [name for name, spec in flow.specs(encoder).items() if spec.type == "STRING"]
    inputs = flow.api[encoder]["inputs"]
    long = [name for name in texts if name in inputs and flow.specs(encoder)[name].options.get("multiline")]
    found = long or [name for name in texts if name in inputs]
    negative = [name for name in found if "negative" in name]
    return negative if negative and polarity == "negative" else [n for n in found if n not in negative]
