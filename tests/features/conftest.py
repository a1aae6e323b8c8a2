"""A tiny model that describes images."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def blip2(tmp_path_factory) -> Path:
    """The folder of a tiny BLIP-2 with random weights, in the real one's format."""
    import torch

    from experiments.real_shapes.blip2 import PIECES, write

    folder = tmp_path_factory.mktemp("blip2")
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    eyes = {**size, "intermediate_size": 32, "initializer_range": 0.5}
    language = {
        **size, "vocab_size": len(PIECES) + 1, "ffn_dim": 32, "word_embed_proj_dim": 16, "max_position_embeddings": 128,
        "init_std": 0.5,
    }  # fmt: skip
    torch.manual_seed(0)
    write(
        folder,
        vision={**eyes, "image_size": 28, "patch_size": 14},
        qformer={**eyes, "vocab_size": 32, "encoder_hidden_size": 16},
        language=language,
        queries=4,
    )
    return folder
