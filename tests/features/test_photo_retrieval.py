"""Same-category retrieval of photographs: how it counts, and what was recorded of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from experiments.photos.retrieval import alike, interval


def test_a_picture_does_not_find_itself():
    """Of its ten nearest others, five are the rest of a group of six."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.eye(4), 6, axis=0) + 0.01 * rng.normal(size=(24, 4))
    categories = np.repeat(np.arange(4), 6)
    assert alike(groups, categories).tolist() == [5] * 24
    assert alike(100 * groups, categories).tolist() == [5] * 24, "by direction alone"


def test_what_was_recorded_of_the_garments():
    recorded = json.loads((Path(__file__).parents[2] / "experiments/photos/retrieval.json").read_text())
    sizes = np.array(recorded["categories"])
    chance = (sizes * (sizes - 1)).sum() / sizes.sum() / (sizes.sum() - 1)
    dealt = recorded["efficientnet-lite0, dealt out"]["precision@10"]
    assert dealt["low"] < chance < dealt["high"], "features of other pictures find what chance finds"
    eyes = recorded["efficientnet-lite0"]["precision@10"]
    assert eyes["low"] > recorded["8 x 8 pixels"]["precision@10"]["high"]
    gap = recorded["precision@10 over demo-clip"]
    assert (
        gap["low"] > 0
        and abs(gap["mean"] - eyes["mean"] + recorded["demo-clip"]["precision@10"]["mean"]) < 2e-4
    )


def test_the_interval_holds_the_mean():
    found = interval(np.array([0.0, 1.0] * 50))
    assert found["mean"] == 0.5 and 0.38 < found["low"] < 0.44 and 0.56 < found["high"] < 0.62
