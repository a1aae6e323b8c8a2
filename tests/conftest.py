"""Tiny models in the folder formats of the real ones, with random weights: written once per test session, loaded by real code."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest

pytest_plugins = ["toy_run", "market_run", "postgres_server", "s3_server"]

_WHOLE_RUNS = {"api", "pipeline", "serving", "stages", "tuning"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take the folders of whole runs first, so that processes which share the files (``make suite``) end together."""
    items.sort(key=lambda item: item.path.parent.name not in _WHOLE_RUNS)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an OpenCLIP model with embeddings of width 16 for images of 32 x 32."""
    from recgen.core.compat import prepare_torchvision

    prepare_torchvision()
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    shape = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    torch.manual_seed(0)
    model = CLIP(**shape)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    grey = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    config = {"model_cfg": shape, "preprocess_cfg": grey}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def tiny_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Stable-Diffusion pipeline that draws 32 x 32 images."""
    from recgen.core.compat import prepare_torchvision

    prepare_torchvision()
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("diffusion")
    words = tmp_path_factory.mktemp("tokenizer")
    letters = string.ascii_lowercase
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    (words / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(vocabulary)}))
    (words / "merges.txt").write_text("#version: 0.2\n")
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
            block_out_channels=[8, 8], norm_num_groups=4, latent_channels=4,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer(str(words / "vocab.json"), str(words / "merges.txt"), model_max_length=16),
        unet=UNet2DConditionModel(
            sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16, attention_head_dim=4, norm_num_groups=4,
        ),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def tiny_xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Stable Diffusion XL pipeline that draws 32 x 32 images: two text encoders, pooled embedding, time ids."""
    from recgen.assets import FOLDER
    from recgen.core.compat import prepare_torchvision

    prepare_torchvision()
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    folder = tmp_path_factory.mktemp("xl")
    words = CLIPTokenizer.from_pretrained(FOLDER / "demo-sd/tokenizer")
    torch.manual_seed(0)
    first, second = (
        CLIPTextConfig(
            vocab_size=len(words), hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=32, projection_dim=8, hidden_act=act, bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
        )
        for width, act in ((16, "quick_gelu"), (24, "gelu"))
    )  # fmt: skip
    StableDiffusionXLPipeline(
        vae=AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
            block_out_channels=[8, 8], norm_num_groups=4, latent_channels=4,
        ),
        text_encoder=CLIPTextModel(first), text_encoder_2=CLIPTextModelWithProjection(second), tokenizer=words, tokenizer_2=words,
        unet=UNet2DConditionModel(
            sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=40, attention_head_dim=(2, 4), norm_num_groups=4, use_linear_projection=True,
            transformer_layers_per_block=(1, 2), addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 8,
        ),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1, beta_schedule="scaled_linear"),
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Llama-type language model of width 16 that knows letters; like Llama's own, without a padding token."""
    from recgen.core.compat import prepare_torchvision

    prepare_torchvision()
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("llm")
    pieces = ["<s>", "</s>", "<unk>", *string.ascii_letters, *string.digits, *string.punctuation, " ", "\n"]
    core = Tokenizer(models.WordLevel({piece: n for n, piece in enumerate(pieces)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(
        vocab_size=len(pieces), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=512, bos_token_id=0, eos_token_id=1, initializer_range=0.5,
    )).save_pretrained(folder)  # fmt: skip
    return folder
