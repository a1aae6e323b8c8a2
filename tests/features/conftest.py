"""A tiny model that describes images."""

from __future__ import annotations

from pathlib import Path

import pytest

from recgen.core.compat import prepare_torchvision


@pytest.fixture(scope="session")
def blip2(tmp_path_factory) -> Path:
    """The folder of a tiny BLIP-2 with random weights, in the real one's format."""
    prepare_torchvision()
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        BlipImageProcessor,
        PreTrainedTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("blip2")
    pieces = ["<pad>", "<s>", "</s>", "<unk>", "\n", *(f"word{n}" for n in range(40))]
    core = Tokenizer(models.WordLevel({piece: n for n, piece in enumerate(pieces)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    Blip2Processor(
        BlipImageProcessor(size={"height": 28, "width": 28}), tokenizer, num_query_tokens=4
    ).save_pretrained(folder)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    language = {
        "model_type": "opt", "vocab_size": len(pieces) + 1, "hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "word_embed_proj_dim": 16, "max_position_embeddings": 128, "bos_token_id": 1,
        "eos_token_id": 2, "pad_token_id": 0, "init_std": 0.5,
    }  # fmt: skip
    torch.manual_seed(0)
    config = Blip2Config(
        vision_config={**size, "image_size": 28, "patch_size": 14, "initializer_range": 0.5},
        qformer_config={**size, "vocab_size": 32, "encoder_hidden_size": 16, "initializer_range": 0.5},
        text_config=language, num_query_tokens=4, image_token_index=len(pieces),
    )  # fmt: skip
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    return folder
