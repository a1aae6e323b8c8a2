"""Own minus swapped: nothing that is not personal can win it, whatever the judge thinks of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recgen.metrics.contrasts import (
    PLACEBO,
    SWAPPED,
    agreement,
    claims,
    contrasts,
    corrected,
    correlation,
    headline,
)

N = 200


def table(gain: np.ndarray, truth: np.ndarray | None = None) -> pd.DataFrame:
    columns = {
        "user_id": [f"u{k % 50}" for k in range(N)],
        "item_id": [f"i{k // 4}" for k in range(N)],
        "percentile_gain_judge": gain,
        "score_gain_judge": gain,
    }
    return pd.DataFrame(columns | ({} if truth is None else {"true_utility_gain": truth}))


def only(found, kind, metric="percentile_gain_judge", name="g"):
    (entry,) = [e for e in found if (e["kind"], e["metric"], e["a"]) == (kind, metric, name)]
    return entry


def test_an_image_that_lifts_every_item_does_not_win():
    rng = np.random.default_rng(0)
    lifted = table(0.3 + 0.1 * rng.normal(size=N))
    found = list(
        contrasts(
            {"g": lifted},
            {"g": lifted.sample(frac=1, random_state=0)},
            {"control.original": table(np.zeros(N))},
            "p",
            1,
        )
    )
    swapped = only(found, SWAPPED)
    assert swapped["difference"] == 0 and swapped["p"] == 1 and swapped["primary"]
    assert only(found, "control")["low"] > 0.2 and not only(found, "control")["primary"]


def test_what_selection_earns_is_taken_off():
    rng = np.random.default_rng(1)
    noise = [0.1 * rng.normal(size=N) for _ in range(4)]
    mine, theirs = table(0.1 + noise[0]), table(noise[1])
    placebo = {"p": table(0.1 + noise[2])}, {"p": table(noise[3])}
    found = list(contrasts({"g": mine}, {"g": theirs, **placebo[1]}, placebo[0], "p", 1))
    assert only(found, SWAPPED)["low"] > 0.05
    net = only(found, PLACEBO)
    assert net["low"] < 0 < net["high"] and net["b"] == "p"


def test_requests_are_matched_and_those_without_a_swap_left_out():
    gain = np.arange(N) / N
    few = table(gain - 0.5).sample(60, random_state=3)
    entry = only(contrasts({"g": table(gain)}, {"g": few}, {}, "p", 1), SWAPPED)
    assert entry["difference"] == pytest.approx(0.5) and entry["n"] == 60


def test_truth_is_the_headline_where_there_is_one():
    with_truth = table(np.ones(N), np.zeros(N))
    assert (
        headline(with_truth) == "true_utility_gain" and headline(table(np.ones(N))) == "percentile_gain_judge"
    )
    found = list(
        contrasts({"g": with_truth, "h": with_truth}, {"g": with_truth, "h": with_truth}, {}, "p", 1)
    )
    assert [e["metric"] for e in found if e["primary"]] == ["true_utility_gain"], (
        "one primary contrast a report"
    )


def test_all_but_the_primary_contrast_are_corrected():
    tests = corrected([{"p": 0.04, "primary": True}, {"p": 0.01}, {"p": 0.04}, {"p": None}])
    assert [test["p_holm"] for test in tests] == [0.04, 0.02, 0.04, None]


def test_agreement_of_judge_and_truth():
    rng = np.random.default_rng(2)
    truth, other = rng.normal(size=(2, N))
    own = table(truth + 0.5 * rng.normal(size=N), truth)
    swapped = table(np.zeros(N), np.zeros(N))
    found = agreement(own, swapped)
    assert 0.8 < found["low"] < found["value"] < found["high"] < 0.97
    assert agreement(table(other, truth), swapped)["low"] < 0.05
    assert agreement(table(other), swapped) is None
    assert correlation([1, 1, 1, 1], [1, 2, 3, 4]).value is None


def test_only_what_both_have_is_compared():
    """A metric that one lacks, a placebo without controls of its own, a generator without swaps: left out, not an error."""
    mine, theirs = table(np.arange(N) / N), table(np.zeros(N))
    more = mine.assign(cps=1.0)
    found = list(contrasts({"g": more}, {"g": theirs}, {"p": theirs}, "p", 1))
    assert {(e["kind"], e["metric"]) for e in found} == {
        (SWAPPED, "percentile_gain_judge"),
        (SWAPPED, "score_gain_judge"),
        ("control", "percentile_gain_judge"),
    }
    assert not [
        e for e in contrasts({"g": mine}, {"g": theirs, "p": theirs}, {}, "p", 1) if e["kind"] == PLACEBO
    ]
    assert not [
        e for e in contrasts({"g": mine}, {"p": theirs}, {"p": theirs}, "p", 1) if e["kind"] == PLACEBO
    ]
    alone = mine[["user_id", "item_id"]].iloc[
        :0
    ]  # what no other user's creative was found for has no rows and no metrics
    for swaps in ({"g": alone, "p": theirs}, {"g": theirs, "p": alone}):
        assert not [e for e in contrasts({"g": mine}, swaps, {"p": theirs}, "p", 1) if e["kind"] == PLACEBO]
    net = list(
        contrasts(
            {"g": mine}, {"g": theirs, "p": theirs}, {"p": theirs.assign(percentile_gain_judge=0.25)}, "p", 1
        )
    )
    assert only(net, PLACEBO)["difference"] == pytest.approx((N - 1) / (2 * N) - 0.25)
    assert not only(net, PLACEBO)["primary"]


def test_a_metric_that_measured_nothing_is_no_headline():
    assert headline(table(np.ones(N), np.full(N, np.nan))) == "percentile_gain_judge"
    assert headline(table(np.full(N, np.nan))) is None


def test_the_correlation_of_known_pairs():
    a, b = [1.0, 2.0, 3.0, 4.0, np.nan, 5.0], [2.0, 1.0, 4.0, 3.0, 0.0, np.nan]
    found = correlation(a, b)
    r, spread = 0.6, stats.norm.ppf(0.975)  # of four pairs: Fisher's z has variance 1
    assert (found.value, found.n) == (0.6, 4)
    assert (found.low, found.high) == pytest.approx(
        tuple(np.tanh(np.arctanh(r) + np.array([-1, 1]) * spread))
    )
    assert correlation(a[:3], b[:3]).value is None and correlation(a[:3], b[:3]).n == 3
    assert correlation([1, 2, 3, 4], [1, 1, 1, 1]).value is None
    assert correlation(a, b, level=0.5).high - 0.6 < found.high - 0.6


@pytest.mark.parametrize("order", [1, -1])
def test_a_claim_is_of_the_truth_where_there_is_one(order):
    entries = [
        {"a": "g", "kind": SWAPPED, "metric": "true_utility_gain", "p": 0.01},
        {"a": "g", "kind": SWAPPED, "metric": "percentile_gain_judge", "p": 0.2},
        {"a": "g", "kind": SWAPPED, "metric": "score_gain_judge", "p": 0.3},
        {"a": "g", "kind": PLACEBO, "metric": "true_utility_gain", "p": 0.02},
        {"a": "g", "kind": PLACEBO, "metric": "percentile_gain_judge", "p": 0.4},
        {"a": "h", "kind": SWAPPED, "metric": "percentile_gain_judge", "p": 0.03},
        {"a": "h", "kind": PLACEBO, "metric": "percentile_gain_judge", "p": 0.04},
        {"a": "i", "kind": PLACEBO, "metric": "true_utility_gain", "p": 0.05},
        {"a": "j", "kind": SWAPPED, "metric": "score_gain_judge", "p": 0.05},
    ][::order]
    assert claims(entries) == {"g": pytest.approx(0.04), "h": pytest.approx(0.04)}
