"""Data and models small enough to fit and draw in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recgen.core.compat import prepare_torchvision
from recgen.data.types import RunData

prepare_torchvision()
from adapters import random_adapter  # noqa: E402

from recgen.diffusion.backbone import Backbone, load_backbone  # noqa: E402
from recgen.features.encoders import Encoder, load_encoder  # noqa: E402


@pytest.fixture(scope="session")
def tiny_adapter(tmp_path_factory: pytest.TempPathFactory, tiny_diffusion: Path) -> Path:
    """An IP-Adapter file with random weights for the tiny pipeline, in the layout of ip-adapter_sd15.safetensors."""
    return random_adapter(tiny_diffusion, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="session")
def backbone(tiny_diffusion: Path, tiny_adapter: Path) -> Backbone:
    """A pipeline that draws 32 x 32 images, with an IP-Adapter for embeddings of width 16."""
    return load_backbone(str(tiny_diffusion), str(tiny_adapter))


@pytest.fixture(scope="session")
def encoder(tiny_clip: Path) -> Encoder:
    """A CLIP model with embeddings of width 16."""
    return load_encoder(str(tiny_clip))


@pytest.fixture(scope="session")
def data() -> RunData:
    """12 users and 30 items with embeddings of width 16; item i0 has no image, user u11 has no like, u10 nothing at all."""
    rng = np.random.default_rng(0)
    features = rng.normal(1.0, 2.0, (30, 16)).astype(np.float32)
    features[0] = np.nan
    rows = [
        {
            "user": user,
            "item": int(item),
            "like": user < 10 and bool(rng.random() < 0.6),
            "timestamp": float(n),
            "split": "train",
        }
        for user in range(12)
        if user != 10
        for n, item in enumerate(rng.choice(30, 12, replace=False))
    ]
    return RunData(
        user_ids=[f"u{n}" for n in range(12)],
        item_ids=[f"i{n}" for n in range(30)],
        texts=[f"a thing number {n}" for n in range(30)],
        images=[None] + [Path(f"{n}.png") for n in range(1, 30)],
        image_features=features,
        text_features=rng.normal(size=(30, 16)).astype(np.float32),
        interactions=pd.DataFrame(rows),
        run_seed=5,
    )
