"""The fixtures that `GeneratorContract` asks for: the shipped models, and a few users and items that fit them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from recgen.data.types import RunData
from recgen.diffusion.backbone import Backbone, load_backbone
from recgen.features.encoders import Encoder, load_encoder

USERS, ITEMS, PER_USER = 12, 30, 12


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """The shipped pipeline with its IP-Adapter."""
    return load_backbone("demo-sd", "demo-ip-adapter")


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The shipped CLIP model."""
    return load_encoder("demo-clip")


@pytest.fixture(scope="session")
def data(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> RunData:
    """12 users and 30 items with images of one colour; item i0 has none, user u11 has no like, u10 nothing at all."""
    rng = np.random.default_rng(0)
    images = _images(rng, tmp_path_factory.mktemp("images"))
    texts = [f"a thing number {item}" for item in range(ITEMS)]
    drawn = encoder.images([Image.open(path) for path in images if path is not None])
    none = np.full((1, drawn.shape[1]), np.nan, dtype=np.float32)
    words: list[tuple[str, ...]] = [(f"word{item % 4}", f"word{item % 7}") for item in range(ITEMS)]
    return RunData(
        user_ids=[f"u{user}" for user in range(USERS)],
        item_ids=[f"i{item}" for item in range(ITEMS)],
        texts=texts,
        images=images,
        image_features=np.concatenate([none, drawn]),
        text_features=encoder.texts(texts),
        interactions=_interactions(rng),
        run_seed=5,
        captions=["", *texts[1:]],
        caption_features=np.concatenate([none, encoder.texts(texts[1:])]),
        keywords=words,
        tags=words,
        foreground_features=np.concatenate([none, drawn]),
    )


def _images(rng: np.random.Generator, folder: Path) -> list[Path | None]:
    found: list[Path | None] = [None]
    for item in range(1, ITEMS):
        red, green, blue = (int(level) for level in rng.integers(0, 256, 3))
        Image.new("RGB", (32, 32), (red, green, blue)).save(folder / f"{item}.png")
        found.append(folder / f"{item}.png")
    return found


def _interactions(rng: np.random.Generator) -> pd.DataFrame:
    rows = [
        {
            "user": user,
            "item": int(item),
            "like": user < 10 and bool(rng.random() < 0.6),
            "timestamp": float(turn),
            "split": "train",
        }
        for user in range(USERS)
        if user != 10
        for turn, item in enumerate(rng.choice(ITEMS, PER_USER, replace=False))
    ]
    return pd.DataFrame(rows)
