"""Writes folders in the shapes of the published models with random weights: a program, since it needs their memory for itself.

python -m experiments.real_shapes.weights FOLDER           # as published
python -m experiments.real_shapes.weights FOLDER --thin    # their widths and lengths where networks meet, thin inside
python -m experiments.real_shapes.weights FOLDER sdxl      # this one only; there are sd15, sdxl, encoder, llama, blip2
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from recgen.assets import asset_folder
from recgen.core.compat import prepare_torchvision

prepare_torchvision()
import open_clip  # noqa: E402
import torch  # noqa: E402
from diffusers import (  # noqa: E402
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file  # noqa: E402
from transformers import (  # noqa: E402
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)

from experiments.real_shapes import blip2  # noqa: E402

BLOCK = 2**22


@dataclass(frozen=True)
class Inside:
    """Sizes that no other network sees: of the UNet, the VAE, its text encoder, CLIP, the language model and BLIP-2."""

    unet: tuple[int, ...] = (320, 640, 1280, 1280)
    vae: tuple[int, ...] = (128, 256, 512, 512)
    text: tuple[int, int] = (12, 3072)  # layers, inner width
    words: int = 32_000
    llama: int = 11_008
    eyes: int = 1408

    @property
    def published(self) -> bool:
        """Whether they are as published."""
        return self == Inside()


THIN = Inside((32, 32, 64, 64), (32, 32, 32, 32), (1, 64), 1_419, 64, 32)


def fill(value: torch.Tensor) -> None:
    """Fill a tensor with small random numbers; one block of them over and over, for billions would take minutes."""
    block = torch.randn(min(BLOCK, value.numel())) * 0.02
    flat = value.view(-1)
    for start in range(0, len(flat), BLOCK):
        flat[start : start + BLOCK] = block[: len(flat) - start]


@torch.no_grad()
def random(kind, *arguments, **options) -> torch.nn.Module:
    """Return a model with small random weights of 16 bits, without the time that its own initialisation takes."""
    with torch.device("meta"):
        model = kind(*arguments, **options)
    model = model.to(torch.float16).to_empty(device="cpu")
    for name, value in model.named_parameters():
        if name.endswith("weight") and value.dim() == 1:
            value.fill_(1.0)
        else:
            fill(value)
    for _, value in model.named_buffers():
        if not value.dtype.is_floating_point:
            value.copy_(torch.arange(value.shape[-1]).expand_as(value))
    return model


def autoencoder(channels: tuple[int, ...], edge: int, **options: float) -> torch.nn.Module:
    """Return the VAE that Stable Diffusion 1.5 and XL share but for `options`."""
    return random(
        AutoencoderKL, block_out_channels=channels, layers_per_block=2, latent_channels=4, sample_size=edge,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, **options,
    )  # fmt: skip


def stable_diffusion(folder: Path, inside: Inside) -> UNet2DConditionModel:
    """Write Stable Diffusion 1.5: a UNet of 860 million parameters, its VAE, CLIP ViT-L's text encoder; return the UNet."""
    unet = random(
        UNet2DConditionModel, sample_size=64, cross_attention_dim=768, attention_head_dim=8,
        block_out_channels=inside.unet,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )  # fmt: skip
    assert not inside.published or millions(unet) == 860
    vae = autoencoder(inside.vae, 512)
    text = random(
        CLIPTextModel,
        CLIPTextConfig(
            vocab_size=49408, hidden_size=768, num_attention_heads=12, num_hidden_layers=inside.text[0],
            intermediate_size=inside.text[1], max_position_embeddings=77, projection_dim=768,
        ),
    )  # fmt: skip
    noise = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, skip_prk_steps=True,
        set_alpha_to_one=False,
    )  # fmt: skip
    words = CLIPTokenizer.from_pretrained(asset_folder("demo-sd") / "tokenizer", model_max_length=77)
    StableDiffusionPipeline(
        vae, text, words, unet, noise, None, None, requires_safety_checker=False
    ).save_pretrained(folder)
    return unet


def stable_diffusion_xl(folder: Path) -> UNet2DConditionModel:
    """Write Stable Diffusion XL's base: a UNet of 2,567 million parameters, its VAE and two text encoders; return the UNet."""
    unet = random(
        UNet2DConditionModel, sample_size=128, cross_attention_dim=2048, attention_head_dim=(5, 10, 20),
        block_out_channels=(320, 640, 1280), transformer_layers_per_block=(1, 2, 10), use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    assert millions(unet) == 2567
    vae = autoencoder(Inside().vae, 1024, scaling_factor=0.13025, force_upcast=True)
    small, large = (
        random(
            kind,
            CLIPTextConfig(
                vocab_size=49408, hidden_size=width, num_attention_heads=heads, num_hidden_layers=layers,
                intermediate_size=4 * width, max_position_embeddings=77, projection_dim=width,
            ),
        )
        for kind, width, heads, layers in (
            (CLIPTextModel, 768, 12, 12), (CLIPTextModelWithProjection, 1280, 20, 32)
        )
    )  # fmt: skip
    noise = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
        timestep_spacing="leading",
    )  # fmt: skip
    words = CLIPTokenizer.from_pretrained(asset_folder("demo-sd") / "tokenizer", model_max_length=77)
    StableDiffusionXLPipeline(
        vae, small, large, words, words, unet, noise, add_watermarker=False
    ).save_pretrained(folder)
    return unet


def ip_adapter(file: Path, unet: UNet2DConditionModel, crossings: int = 16) -> None:
    """Write an IP-Adapter such as ip-adapter_sd15: four tokens from a ViT-H embedding, keys and values a cross-attention."""
    width, tokens = unet.config.cross_attention_dim, 4
    weights = {
        "image_proj.proj.weight": torch.randn(tokens * width, 1024) * 0.02,
        "image_proj.proj.bias": torch.zeros(tokens * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    crosses = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    assert len(crosses) == crossings
    for number, name in enumerate(crosses):
        inner = unet.get_submodule(name.removesuffix(".processor")).inner_dim
        for part in ("k", "v"):
            weights[f"ip_adapter.{2 * number + 1}.to_{part}_ip.weight"] = torch.randn(inner, width) * 0.02
    save_file(weights, file)


def encoder(home: Path, inside: Inside) -> None:
    """Write the weights of OpenCLIP ViT-H-14; or a folder of a CLIP model whose embeddings are as wide as its."""
    if inside.published:
        shape = {
            key: value
            for key, value in open_clip.get_model_config("ViT-H-14").items()
            if key != "custom_text"
        }
        place = home / "open_clip_model.safetensors"
    else:
        tower = {"width": 64, "layers": 1}
        shape = {
            "embed_dim": 1024,
            "vision_cfg": {**tower, "image_size": 224, "patch_size": 32, "head_width": 32},
            "text_cfg": {**tower, "context_length": 77, "vocab_size": 49408, "heads": 2},
        }
        place = home / "encoder/open_clip_model.safetensors"
        place.parent.mkdir(parents=True)
        config = {"model_cfg": shape, "preprocess_cfg": {}}
        place.with_name("open_clip_config.json").write_text(json.dumps(config))
    model = random(open_clip.model.CLIP, **shape)
    assert not inside.published or millions(model) == 986
    model.logit_scale.data.fill_(4.6)
    save_file(model.state_dict(), place)


def llama(folder: Path, inside: Inside, layers: int = 1) -> None:
    """Write Llama-2-7b with so many of its 32 layers."""
    model = random(
        LlamaForCausalLM,
        LlamaConfig(
            vocab_size=inside.words, hidden_size=4096, intermediate_size=inside.llama, num_hidden_layers=layers,
            num_attention_heads=32, max_position_embeddings=4096,
        ),
    )  # fmt: skip
    assert not inside.published or millions(model) == round(262.148 + 202.383 * layers)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(asset_folder("demo-llm")).save_pretrained(folder)


def millions(model: torch.nn.Module) -> int:
    """Return a model's parameters in millions."""
    return round(sum(value.numel() for value in model.parameters()) / 1e6)


def captioner(folder: Path, inside: Inside) -> None:
    """Write blip2-opt-2.7b with one layer of each of its three networks, but all their widths; or a small one."""
    if not inside.published:
        size = {"hidden_size": inside.eyes, "num_hidden_layers": 1, "num_attention_heads": 2}
        eyes = {**size, "intermediate_size": 2 * inside.eyes}
        blip2.write(
            folder,
            vision={**eyes, "image_size": 224, "patch_size": 14},
            qformer={**eyes, "encoder_hidden_size": inside.eyes},
            language={
                **size,
                "vocab_size": len(blip2.PIECES) + 1,
                "ffn_dim": 64,
                "word_embed_proj_dim": inside.eyes,
            },
            queries=32,
            model=random,
        )
        return
    blip2.write(
        folder,
        vision={"hidden_size": 1408, "intermediate_size": 6144, "num_hidden_layers": 1, "num_attention_heads": 16,
                "image_size": 224, "patch_size": 14},
        qformer={"hidden_size": 768, "num_hidden_layers": 1, "encoder_hidden_size": 1408},
        language={"vocab_size": 50304, "hidden_size": 2560, "ffn_dim": 10240, "num_hidden_layers": 1,
                  "num_attention_heads": 32, "word_embed_proj_dim": 2560},
        queries=32,
        model=random,
    )  # fmt: skip


PARTS = ("sd15", "encoder", "llama", "blip2")
"""What pog.yaml needs."""


def main() -> None:
    """Write all of them, or some."""
    parser = argparse.ArgumentParser(description="folders in the shapes of the published models")
    parser.add_argument("folder", type=Path)
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}; or sdxl")
    parser.add_argument("--thin", action="store_true", help="only as wide as published where networks meet")
    parser.add_argument("--layers", type=int, default=1, help="of the language model, published with 32")
    given = parser.parse_args()
    torch.manual_seed(0)
    parts = given.parts or PARTS
    home, inside = given.folder, THIN if given.thin else Inside()
    if "sd15" in parts:
        ip_adapter(
            home / "ip-adapter_sd15.safetensors", stable_diffusion(home / "stable-diffusion-v1-5", inside)
        )
    if "encoder" in parts:
        encoder(home, inside)
    if "llama" in parts:
        llama(home / "llama", inside, given.layers)
    if "blip2" in parts:
        captioner(home / "blip2", inside)
    if "sdxl" in parts:
        unet = stable_diffusion_xl(home / "stable-diffusion-xl-base-1.0")
        ip_adapter(home / "ip-adapter_sdxl_vit-h.safetensors", unet, 70)


if __name__ == "__main__":
    main()
