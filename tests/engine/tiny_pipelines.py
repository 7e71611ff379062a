"""Random pipelines of the three families, small enough to sample in milliseconds; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    ErnieImagePipeline,
    ErnieImageTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    Ministral3Config,
    Mistral3Config,
    Mistral3Model,
    PixtralVisionConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

WORDS = [
    "a",
    "red",
    "blue",
    "mug",
    "chair",
    "on",
    "the",
    "table",
    "with",
    "soft",
    "light",
    "photo",
    "of",
    "two",
    "three",
    "in",
    "front",
    "wooden",
    "old",
    "bright",
    "blurry",
    "user",
]
BOS, EOS, PAD = "<s>", "</s>", "<pad>"
SHIFT = 3.0


def tokenizer(length: int) -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate([PAD, BOS, EOS, "<unk>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, vocabulary[BOS]), (EOS, vocabulary[EOS])]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token="<unk>",
        model_max_length=length,
    )
    made.chat_template = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
    return made


def randomised(model: torch.nn.Module, seed: int) -> Any:
    """Weights that matter: the real initialisation leaves gates and last layers at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if not value.is_floating_point() or "pos_embed" in name or "inv_freq" in name:
                continue
            noise = torch.randn(value.shape, generator=generator)
            if name.endswith("running_var"):
                value.copy_(noise.abs() + 0.5)
            elif value.ndim > 1:
                value.copy_(noise / value[0].numel() ** 0.5)
            else:
                value.copy_(noise * 0.1 + (1 if "norm" in name and name.endswith("weight") else 0))
    return model.eval()


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=SHIFT)


def autoencoder() -> Any:
    return randomised(
        AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            block_out_channels=[8] * 4,
            norm_num_groups=4,
            layers_per_block=1,
            latent_channels=16,
            scaling_factor=1.5,
            shift_factor=0.06,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        1,
    )


def stable_diffusion_3(width: int = 32) -> StableDiffusion3Pipeline:
    def clip(seed: int) -> Any:
        config = CLIPTextConfig(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            projection_dim=16,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
        return randomised(CLIPTextModelWithProjection(config), seed)

    transformer = SD3Transformer2DModel(
        sample_size=8,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=width // 16,
        joint_attention_dim=40,
        caption_projection_dim=width,
        pooled_projection_dim=32,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )
    t5 = T5EncoderModel(T5Config(vocab_size=64, d_model=40, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
    return StableDiffusion3Pipeline(
        transformer=randomised(transformer, 2),
        scheduler=scheduler(),
        vae=autoencoder(),
        text_encoder=clip(3),
        tokenizer=tokenizer(77),
        text_encoder_2=clip(4),
        tokenizer_2=tokenizer(77),
        text_encoder_3=randomised(t5, 5),
        tokenizer_3=tokenizer(512),
    )


def ernie_image(width: int = 32) -> ErnieImagePipeline:
    text = Ministral3Config(
        vocab_size=64,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=12,
    )
    vision = PixtralVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, layers_per_block=1, latent_channels=4
    )
    transformer = ErnieImageTransformer2DModel(
        hidden_size=width,
        num_attention_heads=width // 16,
        num_layers=2,
        ffn_hidden_size=2 * width,
        in_channels=16,
        out_channels=16,
        text_in_dim=24,
        rope_axes_dim=(4, 6, 6),
    )
    return ErnieImagePipeline(
        transformer=randomised(transformer, 2),
        vae=randomised(vae, 3),
        text_encoder=randomised(Mistral3Model(Mistral3Config(text_config=text, vision_config=vision)), 4),
        tokenizer=tokenizer(128),
        scheduler=scheduler(),
    )


def z_image(width: int = 32) -> ZImagePipeline:
    text = Qwen3Config(
        vocab_size=64,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=12,
    )
    transformer = ZImageTransformer2DModel(
        dim=width,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=width // 16,
        n_kv_heads=width // 16,
        cap_feat_dim=24,
        axes_dims=[4, 6, 6],
        axes_lens=[1024, 8, 8],
    )
    return ZImagePipeline(
        scheduler=scheduler(),
        vae=autoencoder(),
        text_encoder=randomised(Qwen3Model(text), 3),
        tokenizer=tokenizer(512),
        transformer=randomised(transformer, 2),
    )


BUILDERS = {"sd3": stable_diffusion_3, "ernie": ernie_image, "zimage": z_image}


def build(folder: Path) -> dict[str, Path]:
    """Save one folder of each family below ``folder``."""
    for name, builder in BUILDERS.items():
        builder().save_pretrained(folder / name)
    return {name: folder / name for name in BUILDERS}
