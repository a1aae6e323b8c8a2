"""What the truth of a simulation says of creatives: attributes and factors are read off the image, the factors in degrees."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from recgen.data.simulation.attributes import Attributes
from recgen.data.simulation.factors import Factors
from recgen.data.simulation.renderer import render
from recgen.data.simulation.simulator import World, simulate
from recgen.data.simulation.tastes import favourite
from recgen.stages.measure import CreativeBatch, by_truth


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    truth = simulate(folder / "sim", World(60, 60, 20, tastes_in="factors"), seed=4)
    truth.save(folder / "dataset/simulator")
    return folder, truth


def gains(world, tmp_path, share: float) -> np.ndarray:
    """Return by_truth's gain of each user's item drawn on the way to the user's favourite factors."""
    folder, truth = world
    users, items = truth.user_ids, truth.item_ids
    own, paths = truth.item_factors, []
    for row, item in enumerate(items):
        drawn = own[row] + share * (favourite(truth.factors[row, 0]) - own[row])
        image = render(Attributes(*truth.item_attributes[row].tolist()), 900 + row, Factors(*drawn.tolist()))
        paths.append(tmp_path / f"{item}.png")
        image.save(paths[-1])
    made = CreativeBatch(
        "x",
        users,
        items,
        [[]] * 60,
        np.arange(60),
        paths,
        np.zeros((60, 1), np.float32),
        np.zeros((60, 1), np.float32),
    )
    found = by_truth(SimpleNamespace(folder=folder), made)
    assert share or np.mean(found["content_preservation"]) > 0.9
    return np.asarray(found["true_utility_gain"])


def test_the_nearer_to_the_favourite_degrees_the_greater_the_gain(world, tmp_path):
    _, truth = world
    own = truth.utility(truth.user_ids, truth.item_attributes, truth.item_factors)
    best = truth.utility(truth.user_ids, truth.item_attributes, favourite(truth.factors[:, 0])) - own
    none, half, full = (gains(world, tmp_path, share) for share in (0.0, 0.5, 1.0))
    assert abs(none.mean()) < 0.15 * best.mean()
    assert (half > none).mean() > 0.9 and (full > half).mean() > 0.9
    assert np.corrcoef(full, best)[0, 1] > 0.75 and full.mean() > 0.7 * best.mean()
