"""REBECA on simulated users: its images, as the attribute reader reads them, are truly better for whom they were made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from generators.rebeca import REBECA
from generators.rebeca.baselines import NoUE
from recgen.assets import asset_folder
from recgen.core.seeding import seed_for
from recgen.data.simulation.attribute_reader import AttributeReader
from recgen.data.simulation.simulator import Truth, World, simulate
from recgen.data.types import Request, RunData
from recgen.diffusion.backbone import Sampling, load_backbone
from recgen.features.encoders import load_encoder
from recgen.metrics.permutation import Permutation, permutation_within_items

USERS, ITEMS, PER_USER = 80, 200, 120
SMALL = {
    "layers": 2, "heads": 4, "width": 64, "ratings": "likes", "prediction": "v_prediction", "learning_rate": 4e-3,
    "users_per_step": 80, "images_per_user": 8, "max_steps": 250, "evaluate_every": 50, "guidance": 5.0, "prior_steps": 20,
    "decode": Sampling(steps=6, sampler="dpm++2m", guidance_scale=3.0),
}  # fmt: skip


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("demo-clip")


@pytest.fixture(scope="module")
def simulated(encoder, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunData, Truth]:
    folder = tmp_path_factory.mktemp("data") / "sim"
    truth = simulate(folder, World(USERS, ITEMS, PER_USER), seed=11)
    log = pd.read_csv(folder / "sim.inter", sep="\t")
    texts = pd.read_csv(folder / "sim.item", sep="\t")["title:token_seq"].tolist()
    images: list[Path | None] = [folder / f"images/{item}.png" for item in truth.item_ids]
    interactions = pd.DataFrame({
        "user": [truth.user_ids.index(user) for user in log["user_id:token"]],
        "item": [truth.item_ids.index(item) for item in log["item_id:token"]],
        "like": log["rating:float"] >= 4, "timestamp": log["timestamp:float"], "split": "train",
    })  # fmt: skip
    features = encoder.files([path for path in images if path is not None])
    data = RunData(
        truth.user_ids,
        truth.item_ids,
        texts,
        images,
        features,
        encoder.texts(texts),
        interactions,
        run_seed=11,
    )
    return data, truth


def true_personalisation(
    kind: type[REBECA], simulated: tuple[RunData, Truth], encoder
) -> tuple[Permutation, float]:
    """Fit, draw one image per user, and test its true probability of being liked; also the mean of random images."""
    data, truth = simulated
    generator = kind(kind.Config(**SMALL), load_backbone("demo-sd", "demo-ip-adapter"), encoder)
    generator.fit(data)
    requests = [
        Request(user, data.item_ids[0], seed_for(11, "request", user, "i1")) for user in truth.user_ids
    ]
    images = [creative.image for creative in generator.generate(requests, data)]
    shown = AttributeReader.load(asset_folder("attribute-reader")).read(images)
    liked = np.stack([truth.probability([user] * len(shown), shown) for user in truth.user_ids])
    original = np.mean(
        [truth.probability([user] * ITEMS, truth.item_attributes).mean() for user in truth.user_ids]
    )
    result = permutation_within_items([liked], seed=1, permutations=4_000)
    assert result is not None
    return result, float(original)


def test_images_for_a_user_are_truly_better_for_that_user(simulated, encoder) -> None:
    result, original = true_personalisation(REBECA, simulated, encoder)
    print(
        f"own {result.observed:.3f}, others {result.null_mean:.3f}, catalogue {original:.3f}, {result.sd:.1f} sd"
    )
    assert result.p < 0.001
    assert result.observed > original + 0.05


@pytest.mark.slow
def test_without_user_embeddings_they_are_nobodys(simulated, encoder) -> None:
    result, _ = true_personalisation(NoUE, simulated, encoder)
    print(f"own {result.observed:.3f}, others' {result.null_mean:.3f}, p {result.p:.5f}")
    assert result.p > 0.01
