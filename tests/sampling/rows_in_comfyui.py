"""Runs with ComfyUI's Python: samples rows as a batch and each alone, and prints how far they are apart.

Reads a JSON list of cases on stdin, prints a JSON object a case.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from functools import cache
from typing import Any

import comfy.cli_args

comfy.cli_args.args.cpu = True

import comfy.hooks  # noqa: E402
import comfy.ldm.ernie.model  # noqa: E402
import comfy.ldm.modules.attention as attention  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.supported_models as supported  # noqa: E402
import torch  # noqa: E402
from comfy_api.torch_helpers import set_torch_compile_wrapper  # noqa: E402
from comfy_extras.nodes_cfg import CFGNorm, CFGZeroStar  # noqa: E402
from comfy_extras.nodes_custom_sampler import Noise_EmptyNoise, Noise_RandomNoise, SamplerCustomAdvanced  # noqa: E402
from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion  # noqa: E402
from comfy_extras.nodes_easycache import EasyCacheNode  # noqa: E402
from comfy_extras.nodes_eps import EpsilonScaling  # noqa: E402
from comfy_extras.nodes_mahiro import Mahiro  # noqa: E402
from comfy_extras.nodes_model_advanced import RescaleCFG  # noqa: E402
from comfy_extras.nodes_rope import ScaleROPE  # noqa: E402

from promptmill.errors import PromptmillError  # noqa: E402
from promptmill.sampling import RowGuider, RowNoise, row_sampler  # noqa: E402
from promptmill.sampling.samplers import WAYS  # noqa: E402

STEPS = 4
SEEDS = (11, 2**60 + 7, 5)
CONTEXT, POOLED = 32, 24
TEXT = {"target": "torch.nn.Linear", "params": {"in_features": CONTEXT, "out_features": 128}}
LUMINA = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "n_layers": 2,
    "n_refiner_layers": 1,
    "multiple_of": 32,
    "ffn_dim_multiplier": 1.0,
    "qk_norm": True,
    "cap_feat_dim": CONTEXT,
    "axes_dims": [8, 12, 12],
    "axes_lens": [64, 32, 32],
}
SD15 = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "transformer_depth": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1],
    "num_heads": 2,
    "use_spatial_transformer": True,
    "context_dim": CONTEXT,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
    "use_temporal_attention": False,
    "legacy": False,
}
CONFIGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "sd35": (
        supported.SD3,
        {
            "in_channels": 16,
            "pos_embed_scaling_factor": None,
            "patch_size": 2,
            "depth": 2,
            "input_size": None,
            "adm_in_channels": POOLED,
            "context_embedder_config": TEXT,
            "num_patches": 64,
            "pos_embed_max_size": 8,
            "qk_norm": "rms",
        },
    ),
    "ernie": (
        supported.ErnieImage,
        {
            "image_model": "ernie",
            "hidden_size": 64,
            "num_attention_heads": 2,
            "num_layers": 2,
            "ffn_hidden_size": 96,
            "text_in_dim": CONTEXT,
            "rope_axes_dim": (8, 12, 12),
        },
    ),
    "zimage": (
        supported.ZImage,
        {
            **LUMINA,
            "dim": 256,
            "n_heads": 8,
            "n_kv_heads": 8,
            "rope_theta": 256.0,
            "z_image_modulation": True,
            "time_scale": 1000.0,
            "pad_tokens_multiple": 32,
        },
    ),
    "lumina2": (supported.Lumina2, {**LUMINA, "dim": 64, "n_heads": 2, "n_kv_heads": 1}),
    "flux": (
        supported.Flux,
        {
            "image_model": "flux",
            "in_channels": 16,
            "out_channels": 16,
            "vec_in_dim": POOLED,
            "context_in_dim": CONTEXT,
            "hidden_size": 64,
            "mlp_ratio": 2.0,
            "num_heads": 2,
            "depth": 1,
            "depth_single_blocks": 1,
            "axes_dim": [8, 12, 12],
            "theta": 10000,
            "patch_size": 2,
            "qkv_bias": True,
            "guidance_embed": True,
            "txt_ids_dims": [],
        },
    ),
    "sd15": (supported.SD15, SD15),
    "sd15-inpaint": (supported.SD15, {**SD15, "in_channels": 9}),
}

forwards = 0


def count_forward(*_: Any) -> None:
    global forwards
    forwards += 1


@cache
def model(name: str, dtype: torch.dtype) -> Any:
    """A tiny model with random weights, in ComfyUI's own classes."""
    kind, unet = CONFIGS[name]
    config = kind(unet)
    config.set_inference_dtype(dtype, None)
    built = config.get_model({}, "", device="cpu")
    generator = torch.Generator().manual_seed(1)
    tensors = [*built.named_parameters(), *built.diffusion_model.named_buffers()]
    for key, weight in tensors:
        gain = weight.ndim == 1 and key.endswith("weight")
        weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1 + gain)
    built.diffusion_model.register_forward_pre_hook(count_forward)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(built, cpu, cpu)


def conditioning(name: str, row: int, length: int, **extra: Any) -> list[list[Any]]:
    generator = torch.Generator().manual_seed(100 + row)
    about: dict[str, Any] = {
        "pooled_output": torch.randn(1, POOLED, generator=generator),
        "guidance": 3.0 + row,
    }
    if name in ("zimage", "lumina2"):
        about = {"attention_mask": torch.ones(1, length, dtype=torch.long)}
    return [[torch.randn(1, length, CONTEXT, generator=generator), {**about, **extra}]]


class NoControl:
    """As much of a ControlNet as sampling asks for: what it adds depends on the place in the batch."""

    extra_hooks = previous_controlnet = None
    multigpu_clones: dict[Any, Any] = {}  # noqa: RUF012

    def get_models(self) -> list[Any]:
        return []

    def get_extra_hooks(self) -> list[Any]:
        return []

    def inference_memory_requirements(self, _: Any) -> int:
        return 0

    def pre_run(self, *_: Any) -> None:
        pass

    def cleanup(self) -> None:
        pass

    def get_control(self, x: torch.Tensor, *_: Any) -> dict[str, Any]:
        residual = torch.linspace(0, 1, x.shape[0] * 16 * 128).reshape(x.shape[0], 16, 128)
        return {"output": [residual], "middle": [], "input": []}


EXTRA: dict[str, Any] = {
    "area": lambda: {"area": (4, 4, 2, 2)},
    "mask": lambda: {"mask": torch.linspace(0, 1, 64).reshape(1, 8, 8), "mask_strength": 0.7},
    "control": lambda: {"control": NoControl()},
    "range": lambda: {"start_percent": 0.0, "end_percent": 0.5},
    "5 tokens": lambda: {"attention_mask": (torch.arange(9)[None] < 5).long()},
    "7 tokens": lambda: {"attention_mask": (torch.arange(9)[None] < 7).long()},
    "reference": lambda: {"reference_latents": [torch.ones(1, 16, 8, 8)]},
}


def sample_euler(denoiser: Any, x: torch.Tensor, sigmas: torch.Tensor, **given: Any) -> torch.Tensor:
    """Another pack's sampler with a name of ComfyUI's: draws from torch's global generator, normalizes over the batch."""
    for sigma in sigmas[:-1]:
        x0 = denoiser(x, sigma * x.new_ones(len(x)), **given["extra_args"])
        x = x0 / x0.std() + 0.1 * torch.randn_like(x)
        given["callback"]({"i": 0, "denoised": x0, "x": x})
    return x


def sampler_of(name: str, options: dict[str, Any]) -> Any:
    if name == "foreign":
        return comfy.samplers.KSAMPLER(sample_euler)
    sampler = comfy.samplers.sampler_object(name)
    sampler.extra_options = options
    return sampler


PATCHES: dict[str, Any] = {
    "RescaleCFG": lambda patcher: RescaleCFG().patch(patcher, 0.7)[0],
    "CFGNorm": lambda patcher: CFGNorm.execute(patcher, 0.8)[0],
    "CFGNormPre": lambda patcher: CFGNorm.execute(patcher, 0.8, True)[0],
    "CFGZeroStar": lambda patcher: CFGZeroStar.execute(patcher)[0],
    "EpsilonScaling": lambda patcher: EpsilonScaling.execute(patcher, 1.1)[0],
    "DifferentialDiffusion": lambda patcher: DifferentialDiffusion.execute(patcher, 0.6)[0],
    "Mahiro": lambda patcher: Mahiro.execute(patcher)[0],
    "EasyCache": lambda patcher: EasyCacheNode.execute(patcher, 10.0, 0.1, 0.9, False)[0],
    "ScaleROPE": lambda patcher: ScaleROPE.execute(patcher, 1.5, 0.0, 1.2, 0.5, 1.0, 3.0)[0],
}


def lora(patcher: Any) -> Any:
    patched = patcher.clone()
    key = "diffusion_model.layers.0.self_attention.to_q.weight"
    patched.add_patches({key: ("diff", (torch.full((64, 64), 0.05),))})
    return patched


def compiled(patcher: Any) -> Any:
    patched = patcher.clone()
    set_torch_compile_wrapper(patched, backend="eager")
    return patched


PATCHES |= {"LoRA": lora, "compiled": compiled}


class Batch:
    """What a case describes."""

    def __init__(self, case: dict[str, Any]) -> None:
        name = case["model"]
        self.patcher = model(name, getattr(torch, case.get("dtype", "float32")))
        if "patch" in case:
            self.patcher = PATCHES[case["patch"]](self.patcher)
        self.cfg = case["cfg"]
        self.sampler = sampler_of(case["sampler"], case.get("options", {}))
        lengths = case["lengths"]
        self.seeds = SEEDS[: len(lengths)]
        extra = case.get("extra", {})
        self.positive = [
            conditioning(name, row, length, **(EXTRA[extra[str(row)]]() if str(row) in extra else {}))
            for row, length in enumerate(lengths)
        ]
        if "entries" in extra:
            self.positive[1] = [*self.positive[1], *conditioning(name, 7, 3)]
        negatives = case.get("negatives", [7] * len(lengths))
        self.negative = [conditioning(name, 50 + row, length) for row, length in enumerate(negatives)]
        latent_format = self.patcher.model.latent_format
        shape = (len(lengths), latent_format.latent_channels, 8, 8)
        generator = torch.Generator().manual_seed(3)
        images = torch.randn(shape, generator=generator)
        keep = torch.tensor(case.get("images", [0] * len(lengths))).reshape(-1, 1, 1, 1)
        self.latent: dict[str, Any] = {"samples": images * keep}
        if "masks" in case:
            masks = torch.rand((case["masks"], 1, 16, 16), generator=generator)
            self.latent["noise_mask"] = masks.round() if case["sampler"] == "ddim" else masks
        if "batch_index" in case:
            self.latent["batch_index"] = case["batch_index"]
        sampling = self.patcher.get_model_object("model_sampling")
        self.sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", STEPS)[case.get("start", 0) :]
        self.silent = case.get("silent", False)

    def together(self) -> tuple[torch.Tensor, torch.Tensor]:
        guider = RowGuider(self.patcher, self.positive, self.negative, self.cfg, self.seeds)
        noise = Noise_EmptyNoise() if self.silent else RowNoise(self.seeds)
        return self._sample(noise, guider, self.latent)

    def alone(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        guider = comfy.samplers.CFGGuider(self.patcher)
        guider.set_conds(self.positive[row], self.negative[row])
        guider.set_cfg(self.cfg)
        own = slice(row, row + 1)
        latent = {"samples": self.latent["samples"][own]}
        if "noise_mask" in self.latent:
            masks = self.latent["noise_mask"]
            latent["noise_mask"] = masks[own] if len(masks) > 1 else masks
        if "batch_index" in self.latent:
            latent["batch_index"] = self.latent["batch_index"][own]
        noise = Noise_EmptyNoise() if self.silent else Noise_RandomNoise(self.seeds[row])
        return self._sample(noise, guider, latent)

    def _sample(self, noise: Any, guider: Any, latent: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        sampled, denoised = SamplerCustomAdvanced.execute(
            noise, guider, self.sampler, self.sigmas, latent
        ).result
        return sampled["samples"], denoised["samples"]


made_alone: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}


def apart(case: dict[str, Any]) -> dict[str, Any]:
    """Largest difference between a row of the batch and that row alone, of the largest value; and the batch's forwards."""
    global forwards
    torch.manual_seed(0)
    batch = Batch(case)
    forwards = 0
    together = batch.together()
    used = forwards
    differences = []
    for row, length in enumerate(case["lengths"]):
        key = json.dumps([row, length, {**case, "lengths": len(batch.seeds)}])
        if key not in made_alone:
            made_alone[key] = batch.alone(row)
        for ours, alone in zip(together, made_alone[key], strict=True):
            differences.append(float((ours[row : row + 1] - alone).abs().max() / alone.abs().max()))
    return {"difference": max(differences, key=lambda value: (value != value, value)), "forwards": used}


def attention_quantized(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, **_: Any
) -> torch.Tensor:
    """Leaves the mask out."""
    return attention.attention_pytorch(q, k, v, heads)


def with_attention(name: str) -> dict[str, Any]:
    own = comfy.ldm.ernie.model.optimized_attention
    comfy.ldm.ernie.model.optimized_attention = getattr(attention, name, attention_quantized)
    try:
        return apart({"model": "ernie", "sampler": "euler", "cfg": 3.0, "lengths": [9, 31, 4]})
    finally:
        comfy.ldm.ernie.model.optimized_attention = own


def progress(case: dict[str, Any]) -> dict[str, Any]:
    """The calls of a callback, and whether its last x0 has every row's."""
    batch = Batch(case)
    guider = RowGuider(batch.patcher, batch.positive, batch.negative, batch.cfg, batch.seeds)
    seen: list[Any] = []

    def callback(step: int, x0: torch.Tensor, _: torch.Tensor, steps: int) -> None:
        seen.append((step, steps, len(x0)))
        seen_x0.append(x0)

    seen_x0: list[torch.Tensor] = []
    samples = batch.latent["samples"]
    made = guider.sample(
        RowNoise(batch.seeds).generate_noise(batch.latent),
        samples,
        batch.sampler,
        batch.sigmas,
        callback=callback,
        disable_pbar=True,
    )
    x0 = batch.patcher.model.process_latent_out(seen_x0[-1])
    return {"calls": seen, "difference": float((x0 - made).abs().max())}


def refused(what: str) -> dict[str, Any]:
    """The message of a mistake."""
    batch = Batch({"model": "ernie", "sampler": "euler", "cfg": 1.0, "lengths": [4, 4, 4]})
    patcher, positive, negative, latent = batch.patcher, batch.positive, batch.negative, batch.latent
    samples = latent["samples"]
    guider = RowGuider(patcher, positive, negative, 1.0, SEEDS)
    noise = RowNoise(SEEDS).generate_noise(latent)

    def sample(**changed: Any) -> None:
        given = {"noise": noise, "latent_image": samples, "sampler": batch.sampler, "sigmas": batch.sigmas}
        guider.sample(**{**given, **changed})

    {
        "no rows": lambda: RowNoise([]),
        "noise count": lambda: RowNoise([1, 2]).generate_noise(latent),
        "batch_index count": lambda: RowNoise(SEEDS).generate_noise({**latent, "batch_index": [0]}),
        "guider counts": lambda: RowGuider(patcher, positive, negative[:1], 1.0, SEEDS),
        "latent count": lambda: sample(noise=noise[:2], latent_image=samples[:2]),
        "mask count": lambda: sample(denoise_mask=torch.ones(2, 1, 8, 8)),
        "other noise": lambda: sample(seed=12345),
        "dpm_adaptive": lambda: sample(sampler=comfy.samplers.sampler_object("dpm_adaptive")),
        "foreign row_sampler": lambda: row_sampler(comfy.samplers.KSAMPLER(sample_euler), SEEDS),
    }[what]()
    return {}


def names() -> dict[str, Any]:
    ways = {}
    for name in comfy.samplers.SAMPLER_NAMES:
        function = comfy.samplers.sampler_object(name).sampler_function
        ways[name] = WAYS[function.__name__].value
    return {"ways": ways}


def run(case: dict[str, Any]) -> dict[str, Any]:
    if "attention" in case:
        return with_attention(case["attention"])
    if "refused" in case:
        return refused(case["refused"])
    if "progress" in case:
        return progress(case["progress"])
    return names() if "names" in case else apart(case)


class Log(logging.Handler):
    lines: list[str] = []  # noqa: RUF012

    def emit(self, record: logging.LogRecord) -> None:
        if "promptmill" in record.getMessage():
            self.lines.append(record.getMessage())


def main() -> None:
    logging.getLogger().addHandler(Log())
    logging.getLogger().setLevel(logging.INFO)
    torch.set_num_threads(1)
    with torch.inference_mode():
        for case in json.load(sys.stdin):
            Log.lines.clear()
            try:
                result = run(case)
            except PromptmillError as error:
                result = {"error": error.as_dict()}
            except Exception:
                result = {"traceback": traceback.format_exc()}
            print(json.dumps({**result, "log": Log.lines}), flush=True)


main()
