"""Sources compared over draws and users, and which pairs are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recgen.metrics.comparison import compare, net_of_swapped
from recgen.report.verdicts import ranks_better

SOURCES = ("ORI", "SHUFFLED", "NONE", "RANDOM", "g", "swapped.g", "dealt.g")


def table(gains: dict[str, float], draws: int = 6, users: int = 80, noise: float = 0.02) -> pd.DataFrame:
    """Results of every source: what all share, the source's gain, and noise."""
    rng, rows = np.random.default_rng(0), []
    shared = rng.uniform(0, 0.3, size=(draws, users))
    for source in SOURCES:
        values = shared + gains.get(source, 0.0) + noise * rng.normal(size=shared.shape)
        for draw in range(draws):
            named = {"source": source, "draw": draw, "user_id": [f"u{user}" for user in range(users)]}
            rows.append(pd.DataFrame({**named, "ndcg@10": values[draw], "recall@10": values[draw]}))
    return pd.concat(rows)


def metrics(**changes: float) -> dict:
    gains = {"SHUFFLED": -0.05, "NONE": -0.05, **changes}
    found = compare(table(gains), ("recall@10", "ndcg@10"), ["g"])
    return {"downstream": found.means, "tests": {"paired": found.tests}}


def test_pairs_are_taken_draw_by_draw_and_user_by_user():
    rows = table({"g": 0.04}, noise=0.0)
    found = compare(rows.sample(frac=1, random_state=1), ("ndcg@10",), ["g"], " reranked")
    assert set(found.means) == set(SOURCES) and list(found.means["g"]) == ["ndcg@10 reranked"]
    tests = {(test["a"], test["b"]): test for test in found.tests}
    assert set(tests) == {("g", other) for other in SOURCES if other != "g"} | {
        (control, "ORI") for control in ("SHUFFLED", "NONE", "RANDOM")
    }
    assert tests["g", "swapped.g"]["difference"] == pytest.approx(0.04) and tests["g", "ORI"]["n"] == 6
    assert tests["RANDOM", "ORI"]["difference"] == pytest.approx(0, abs=1e-12)
    assert net_of_swapped(rows, "g", "ndcg@10") == pytest.approx(0.04)


def test_yes_is_said_only_where_own_creatives_beat_everything():
    assert ranks_better(metrics(g=0.05), "g") == ("good", "yes")
    assert ranks_better(metrics(), "g") == ("unclear", "cannot tell")
    assert ranks_better(metrics(g=-0.05), "g")[0] == "bad"


@pytest.mark.parametrize("other", ["swapped.g", "dealt.g", "RANDOM"])
def test_what_images_of_others_gain_too_is_no_gain(other):
    verdict, label = ranks_better(metrics(g=0.05, **{other: 0.05}), "g")
    assert verdict == "unclear" and "images of others" in label


@pytest.mark.parametrize("control", ["SHUFFLED", "NONE"])
def test_a_recommender_that_gains_nothing_from_images_shows_nothing(control):
    verdict, label = ranks_better(metrics(g=0.05, **{control: 0.0}), "g")
    assert verdict == "unclear" and "gains nothing from images" in label


def test_fewer_than_five_draws_tell_nothing():
    found = compare(table({"g": 0.05, "SHUFFLED": -0.05, "NONE": -0.05}, draws=4), ("ndcg@10",), ["g"])
    few = {"downstream": found.means, "tests": {"paired": found.tests}}
    assert ranks_better(few, "g") == ("unclear", "too few draws to tell")
    without = {"tests": {"paired": [test for test in found.tests if test["b"] == "ORI"]}}
    assert ranks_better(without, "g") == ("unclear", "cannot tell without its controls")


def test_intervals_end_where_a_metric_does():
    rows = table({})
    rows = rows.assign(
        **{"recall@10": np.where(rows["user_id"] == "u1", 1.0, 0.0), "recall@20": rows["ndcg@10"] * 0 + 9}
    )
    found = compare(rows, ("recall@10", "recall@20"), ["g"]).means["g"]
    assert found["recall@10"]["low"] == 0.0 < found["recall@10"]["value"] < found["recall@10"]["high"]
    assert found["recall@20"]["high"] == 9  # nothing is known of its bounds
