"""Writes folders in the shapes of the published models with random weights: a program, since it needs their memory for itself."""

from __future__ import annotations

import sys
from pathlib import Path

from recgen.assets import asset_folder
from recgen.core.compat import prepare_torchvision

prepare_torchvision()
import open_clip  # noqa: E402
import torch  # noqa: E402
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import (  # noqa: E402
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)

from experiments.real_shapes import blip2  # noqa: E402

BLOCK = 2**22


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


def stable_diffusion(folder: Path) -> UNet2DConditionModel:
    """Write Stable Diffusion 1.5: a UNet of 860 million parameters, its VAE, CLIP ViT-L's text encoder; return the UNet."""
    unet = random(
        UNet2DConditionModel, sample_size=64, cross_attention_dim=768, attention_head_dim=8,
        block_out_channels=(320, 640, 1280, 1280),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )  # fmt: skip
    assert round(sum(value.numel() for value in unet.parameters()) / 1e6) == 860
    vae = random(
        AutoencoderKL, block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    text = random(
        CLIPTextModel,
        CLIPTextConfig(
            vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
            max_position_embeddings=77, projection_dim=768,
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


def ip_adapter(file: Path, unet: UNet2DConditionModel) -> None:
    """Write ip-adapter_sd15.safetensors: four tokens from a ViT-H embedding, keys and values for each cross-attention."""
    width, tokens = 768, 4
    weights = {
        "image_proj.proj.weight": torch.randn(tokens * width, 1024) * 0.02,
        "image_proj.proj.bias": torch.zeros(tokens * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    crosses = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    assert len(crosses) == 16
    for number, name in enumerate(crosses):
        inner = unet.get_submodule(name.removesuffix(".processor")).inner_dim
        for part in ("k", "v"):
            weights[f"ip_adapter.{2 * number + 1}.to_{part}_ip.weight"] = torch.randn(inner, width) * 0.02
    save_file(weights, file)


def open_clip_vit_h(file: Path) -> None:
    """Write the weights of OpenCLIP ViT-H-14."""
    shape = {
        key: value for key, value in open_clip.get_model_config("ViT-H-14").items() if key != "custom_text"
    }
    model = random(open_clip.model.CLIP, **shape)
    assert round(sum(value.numel() for value in model.parameters()) / 1e6) == 986
    model.logit_scale.data.fill_(4.6)
    save_file(model.state_dict(), file)


def llama(folder: Path) -> None:
    """Write Llama-2-7b with one of its 32 layers."""
    model = random(
        LlamaForCausalLM,
        LlamaConfig(
            vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=1, num_attention_heads=32,
            max_position_embeddings=4096,
        ),
    )  # fmt: skip
    assert round(sum(value.numel() for value in model.parameters()) / 1e6) == 465
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(asset_folder("demo-llm")).save_pretrained(folder)


def opt_2_7b(folder: Path) -> None:
    """Write blip2-opt-2.7b with one layer of each of its three networks, but all their widths."""
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


if __name__ == "__main__":
    torch.manual_seed(0)
    home = Path(sys.argv[1])
    ip_adapter(home / "ip-adapter_sd15.safetensors", stable_diffusion(home / "stable-diffusion-v1-5"))
    open_clip_vit_h(home / "open_clip_model.safetensors")
    llama(home / "llama")
    opt_2_7b(home / "blip2")
