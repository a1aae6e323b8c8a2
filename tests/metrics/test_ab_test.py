"""The A/B test's numbers by hand, its units, and that it finds nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recgen.metrics.ab_test import ab_test, per_page, uplift


def _log(clicks, seeds=1):
    """Build a log of pages of two places from clicks[user][arm] = clicks per page, page after page."""
    rows = []
    for seed in range(seeds):
        for user, arms in enumerate(clicks):
            for arm, counts in arms.items():
                for page, count in enumerate(counts):
                    name = f"{user}-{arm}-{page}"
                    rows += [(f"u{user}", name, 0, arm, place < count, seed) for place in range(2)]
    return pd.DataFrame(rows, columns=["user_id", "page_id", "round", "arm", "click", "seed"])


def test_by_hand():
    log = _log([{"original": [0, 1], "own": [2, 1]}, {"original": [1, 1], "own": [1, 2]}])
    found = ab_test(log, "original", 0)
    assert found["original"]["clicks"]["value"] == pytest.approx(750)
    assert found["own"]["clicks"]["value"] == pytest.approx(1500) and found["own"]["pages"] == 4
    assert found["own"]["uplift"]["difference"] == pytest.approx(750)  # 1000 and 500
    assert found["own"]["uplift"]["p"] is None, "two users are too few for a p"
    assert "uplift" not in found["original"]


def test_repetitions_are_told_apart_and_widen_the_interval():
    rng = np.random.default_rng(0)
    clicks = [{"original": [1], "own": [int(rng.integers(0, 3))]} for _ in range(40)]
    one = ab_test(_log(clicks), "original", 0)["own"]["uplift"]
    four = _log(clicks, seeds=4)
    assert len(per_page(four)) == 4 * 80
    assert ab_test(four, "original", 0)["own"]["uplift"]["difference"] == pytest.approx(one["difference"])
    shifted = four.assign(click=np.where((four["seed"] == 0) & (four["arm"] == "own"), False, four["click"]))
    wide = ab_test(shifted, "original", 0)["own"]["uplift"]
    assert wide["high"] - wide["low"] > one["high"] - one["low"], "repetitions that differ are units too"


def test_a_page_of_several_arms_is_refused():
    log = _log([{"original": [1], "own": [1]}])
    with pytest.raises(ValueError, match="several arms"):
        per_page(log.assign(page_id="the same"))


def test_without_an_effect_one_interval_in_twenty_misses():
    missed = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        rate = rng.beta(2, 2, 30)
        clicks = [{arm: rng.binomial(2, p, 3).tolist() for arm in ("original", "own")} for p in rate]
        found = uplift(per_page(_log(clicks)), "own", "original", seed)
        missed += not found["low"] <= 0 <= found["high"]
    assert 0 < missed <= 12  # Binomial(100, 0.05): more in 2 of 1,000, none in 6


def test_with_repetitions_every_figure_is_of_users_and_repetitions():
    """Users all alike, repetitions not: nothing of the result may come from the users alone."""
    log = _log([{"original": [1], "own": [1]}] * 30, seeds=5)
    extra = (log["page_id"].str.contains("own")) & (log["seed"] >= 3)
    found = ab_test(log.assign(click=np.where(extra, True, log["click"])), "original", 0)["own"]
    half = 2.7764 * np.std([0, 0, 0, 1000, 1000], ddof=1) / np.sqrt(5)  # Student's t, 4 degrees of freedom
    uplift, clicks = found["uplift"], found["clicks"]
    assert (uplift["low"], uplift["high"]) == pytest.approx((400 - half, 400 + half), rel=1e-3)
    assert (clicks["low"], clicks["high"]) == pytest.approx((1400 - half, 1400 + half), rel=1e-3)
    assert uplift["test"] == "two-way clustered t over repetitions and users" and uplift["n"] == 5
    assert uplift["detectable"] == pytest.approx(2.8016 * half / 2.7764, rel=1e-3)
