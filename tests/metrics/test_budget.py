"""The order of images and the curve of a budget, on images whose worth is known."""

from __future__ import annotations

import numpy as np
import pytest

from recgen.metrics.budget import SHARES, curve, order, values


def test_an_image_is_worth_what_all_who_see_it_gain():
    images, value = values([("a", 1), ("b", 1), ("a", 1), ("c", 2)], [1, 5, 2, 0], [1, 1, 3, 9])
    assert images == [("a", 1), ("b", 1), ("c", 2)] and value.tolist() == [7, 5, 0]
    assert order(np.zeros(3)).tolist() == [0, 1, 2]


def test_the_curve_by_a_loop():
    rng = np.random.default_rng(0)
    n = 40
    images, traffic = [f"i{k}" for k in range(n)], rng.exponential(size=n)
    measured = rng.normal(1, 1, n)
    predicted = measured + rng.normal(0, 0.5, n)
    measured[3] = np.nan
    found = curve(images, predicted, measured, traffic, seed=1)
    worth = np.nan_to_num(measured) * traffic
    for key, by in (("earned", predicted * traffic), ("best", worth)):
        ranked = sorted(range(n), key=lambda k, by=by: -by[k])
        for share, value in zip(SHARES, found[key], strict=True):
            assert value == pytest.approx(sum(worth[k] for k in ranked[: round(share * n)]) / worth.sum())
    assert [found[key][-1] for key in ("earned", "random")] == pytest.approx([1, 1]) and found["images"] == n
    assert found["random"][4] == pytest.approx(0.5, abs=0.05)
    assert found["random"][2] < found["earned"][2] < found["best"][2] and max(found["best"]) > 1


def test_images_that_earn_nothing_have_no_shares():
    found = curve(["a", "b"], [1, 2], [-1, 0.5], [1, 1], seed=0)
    assert found["total"] == -0.5 and found["earned"] is None and found["random"] is None
