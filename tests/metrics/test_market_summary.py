"""What a market's log says, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recgen.metrics.market import summary

ARMS = ("original", "own", "other")


def _market(seeds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """An A/B test and a world of each arm: nobody clicks the originals, 3 users in 4 what is their own, half the other."""
    clicks = {"original": lambda u: False, "own": lambda u: u % 4 > 0, "other": lambda u: u % 2 == 0}
    rows = [
        (
            f"u{user}",
            f"{world}{arm}{user}{seed}",
            0,
            arm,
            1,
            clicks[arm](user),
            1 / len(arms),
            0.5,
            world,
            seed,
        )
        for seed in range(seeds)
        for world, arms in {"A/B": ARMS, **{arm: (arm,) for arm in ARMS}}.items()
        for arm in arms
        for user in range(20)
    ]
    columns = [
        "user_id",
        "page_id",
        "round",
        "arm",
        "position",
        "click",
        "propensity",
        "expected",
        "world",
        "seed",
    ]
    quality = [
        (f"u{user}", turn, 0.1 * turn + 0.2 * (world == "own"), 0.5, world, seed)
        for seed in range(seeds)
        for world in ("A/B", *ARMS)
        for turn in (0, 1)
        for user in range(20)
    ]
    named = ["user_id", "round", "recall@10", "ndcg@10", "world", "seed"]
    return pd.DataFrame(rows, columns=columns).assign(effect=1.0), pd.DataFrame(
        quality, columns=named
    ).assign(effect=1.0)


@pytest.mark.parametrize("seeds", [1, 5])
def test_uplifts_of_the_worlds_are_corrected_for_the_number_of_arms_too(seeds):
    found = summary(*_market(seeds), ARMS, "A/B", 0)["1"]
    for table in (found["ab"], found["rounds"][0], found["worlds"]):
        own, other = (table[arm]["uplift"] for arm in ("own", "other"))
        assert own["difference"] == pytest.approx(750) and other["difference"] == pytest.approx(500)
        assert 0 < own["p"] < other["p"] or own["p"] == other["p"] == 0
        assert own["p_holm"] == pytest.approx(min(2 * own["p"], 1)) and other["p_holm"] == pytest.approx(
            other["p"]
        )
        assert "uplift" not in table["original"]
    assert found["ab"]["own"]["expected"] == pytest.approx(500)


@pytest.mark.parametrize("seeds", [1, 5])
def test_recommenders_are_compared_with_the_originals_world_and_with_themselves_before(seeds):
    worlds = summary(*_market(seeds), ARMS, "A/B", 0)["1"]["worlds"]
    recall = worlds["own"]["quality"]["recall@10"]
    assert recall["value"] == pytest.approx(0.3)
    assert recall["over_original"]["difference"] == pytest.approx(0.2)
    assert recall["learned"]["difference"] == pytest.approx(0.1)
    assert worlds["original"]["quality"]["recall@10"]["over_original"] is None
    assert worlds["own"]["rounds"] == [750.0]
    unit = "repetitions and users" if seeds > 1 else "sign-flip"
    assert unit in recall["learned"]["test"]
    assert np.isfinite(recall["learned"]["p"])
