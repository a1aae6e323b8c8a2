"""Intervals that cover, tests that are calibrated, and both against scipy."""

import json
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from recgen.metrics import statistics as s
from recgen.metrics.permutation import permutation_within_items


def test_bootstrap_is_the_studentised_one_as_loops():
    rng = np.random.default_rng(0)
    values = rng.exponential(size=40)
    ours = s.bootstrap_mean(values, np.arange(40), seed=1)
    mean, error = values.mean(), stats.sem(values)
    deviations = []
    for _ in range(4000):
        drawn = rng.choice(values, 40)
        deviations.append((drawn.mean() - mean) / max(stats.sem(drawn), 0.25 * error))
    low, high = np.quantile(deviations, [0.025, 0.975])
    assert ours.value == pytest.approx(mean) and ours.n == 40
    assert ours.low == pytest.approx(mean - high * error, abs=0.03)
    assert ours.high == pytest.approx(mean - low * error, abs=0.06)
    assert ours.high - mean > mean - ours.low, "a long right tail leaves room for larger means"


def test_bootstrap_draws_users_not_creatives():
    # 10 users with 30 equal creatives each: 10 pieces of information, not 300
    per_user = np.random.default_rng(1).normal(size=10)
    ten = s.bootstrap_mean(per_user, np.arange(10), seed=3)
    repeated = s.bootstrap_mean(np.repeat(per_user, 30), np.repeat(np.arange(10), 30), seed=3)
    assert repeated.n == 300
    assert (repeated.value, repeated.low, repeated.high) == pytest.approx((ten.value, ten.low, ten.high))


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(4), 0
    for trial in range(200):
        effects = np.repeat(rng.normal(size=30), 3) + rng.normal(size=90)
        estimate = s.bootstrap_mean(effects, np.repeat(np.arange(30), 3), seed=trial)
        covered += estimate.low <= 0 <= estimate.high
    assert 175 <= covered <= 199


def test_bootstrap_is_seeded_and_indifferent_to_order():
    rng = np.random.default_rng(5)
    values, users = rng.normal(size=50), rng.integers(0, 20, size=50).astype(str)
    order = rng.permutation(50)
    first = s.bootstrap_mean(values, users, seed=6)
    again = s.bootstrap_mean(values[order], users[order], seed=6)
    assert (first.low, first.high) == pytest.approx((again.low, again.high))
    assert first.low != s.bootstrap_mean(values, users, seed=7).low


def test_bootstrap_leaves_out_what_was_not_measured():
    estimate = s.bootstrap_mean([1.0, np.nan, 3.0], ["a", "b", "c"], seed=0)
    assert (estimate.value, estimate.n) == (2.0, 2)
    assert s.bootstrap_mean([np.nan], ["a"], seed=0) == s.Estimate(None, None, None, 0)


def test_paired_difference_tries_every_sign_when_there_are_few_users():
    a, b = np.array([3.0, 1.0, 2.5, 4.0, 1.5]), np.array([1.0, 1.5, 1.0, 2.0, 1.0])
    ours = s.paired_difference(a, b, list("vwxyz"), seed=0)
    scipys = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    )
    assert ours.p == pytest.approx(scipys.pvalue) and ours.difference == pytest.approx((a - b).mean())


def test_paired_difference_agrees_with_wilcoxon_and_t_on_many_users():
    rng = np.random.default_rng(8)
    b = rng.normal(size=300)
    a = b + 0.12 + rng.normal(size=300)
    ours = s.paired_difference(a, b, np.arange(300), seed=1)
    assert ours.p == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.01)
    assert ours.low < (a - b).mean() < ours.high and ours.n == 300


def test_paired_test_is_calibrated_when_users_have_several_requests():
    rng, small = np.random.default_rng(9), 0
    users = np.repeat(np.arange(20), 5)
    for trial in range(200):
        gap = np.repeat(rng.normal(size=20), 5) + 0.3 * rng.normal(size=100)  # a user's requests go together
        small += s.paired_difference(gap, np.zeros(100), users, seed=trial).p <= 0.05
    assert 2 <= small <= 20  # 5% of 200 is 10; treating 100 requests as independent gives about 70


def test_paired_difference_without_a_common_request():
    found = s.paired_difference([np.nan, 1.0], [1.0, np.nan], ["a", "b"], seed=0).as_json("x", "y", "cis")
    assert found["n"] == 0 and found["difference"] is found["low"] is found["p"] is found["needed"] is None


@pytest.mark.parametrize("units", [3, 4])
def test_no_p_value_from_fewer_than_five_units(units):
    """Three equal differences are no certainty: as p = 0 they would be."""
    few = list("abcd")[:units]
    assert s.paired_difference([0.1] * units, [0.0] * units, few, seed=0).p is None
    assert s.paired_seeds([0.1] * units, [0.0] * units).p is None
    assert s.paired_seeds([0.1] * 5, [0.0] * 5).p == 0.0


def test_power_finds_the_effect_in_four_of_five_runs():
    rng = np.random.default_rng(2)
    pilot = s.paired_difference(rng.normal(0.1, 1, 5000), np.zeros(5000), np.arange(5000), seed=0)
    runs = rng.normal(pilot.difference, 1, size=(2000, pilot.needed))
    assert (stats.ttest_1samp(runs, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.03)
    small = s.paired_difference(rng.normal(0, 1, 50), np.zeros(50), np.arange(50), seed=0)
    assert small.detectable == pytest.approx(2.8 / np.sqrt(50), rel=0.2)


def test_holm_is_the_step_down_procedure():
    p = np.array([0.001, 0.02, 0.4, 0.015, 0.9])
    order = np.argsort(p)
    expected = np.empty(5)
    expected[order] = np.minimum(np.maximum.accumulate((5 - np.arange(5)) * p[order]), 1)
    assert s.holm([*p, None])[:5] == pytest.approx(expected) and s.holm([None]) == [None]


def test_seeds_equal_scipy():
    a, b = [0.061, 0.064, 0.060, 0.066, 0.063], [0.059, 0.060, 0.061, 0.061, 0.060]
    interval = stats.t.interval(0.95, 4, loc=np.mean(a), scale=stats.sem(a))
    assert (s.seed_mean(a).low, s.seed_mean(a).high) == pytest.approx(interval)
    result, expected = s.paired_seeds(a, b), stats.ttest_rel(a, b)
    assert (result.p, result.low, result.high) == pytest.approx(
        (expected.pvalue, *expected.confidence_interval())
    )


def test_one_seed_has_no_interval_and_equal_results_no_evidence():
    assert s.seed_mean([0.5]) == s.Estimate(0.5, None, None, 1)
    assert s.paired_seeds([0.5], [0.4]).p is None
    assert s.paired_seeds([0.5] * 5, [0.5] * 5).p == 1.0


def test_permutation_equals_exhaustive_dealing():
    """Two items of three and two users: twelve deals in all, whose mean is known."""
    rng = np.random.default_rng(10)
    groups = [rng.uniform(size=(3, 3)), rng.uniform(size=(2, 2)), rng.uniform(size=(1, 1))]
    result = permutation_within_items(groups, seed=3, permutations=4000)
    deals = [
        groups[0][range(3), list(first)].sum() + groups[1][range(2), list(second)].sum()
        for first in permutations(range(3))
        for second in permutations(range(2))
    ]
    assert result.n == 5 and result.observed == pytest.approx((np.trace(groups[0]) + np.trace(groups[1])) / 5)
    assert result.null_mean == pytest.approx(np.mean(deals) / 5, abs=0.01)
    exact = np.mean(np.array(deals) / 5 >= result.observed - 1e-12)
    assert result.p == pytest.approx(exact, abs=0.03)


def test_permutation_is_calibrated_when_images_ignore_the_user():
    rng = np.random.default_rng(11)

    def run(trial: int) -> float:
        likes_items = [rng.uniform(size=(3, 1)) + rng.uniform(size=(1, 3)) for _ in range(12)]
        return permutation_within_items(
            [rng.uniform(size=(3, 3)) + each for each in likes_items], trial, 99
        ).p

    assert stats.kstest([run(trial) for trial in range(200)], "uniform").pvalue > 0.001


def test_what_the_item_is_worth_to_its_user_is_no_evidence():
    """Each item's image is the item's own, and its users like it: dealing over all items would find p = 0.001."""
    rng = np.random.default_rng(12)
    groups = [np.repeat(rng.uniform(0.8, 1.0, size=(3, 1)), 3, axis=1) for _ in range(20)]
    result = permutation_within_items(groups, seed=0)
    assert result.p == 1.0 and result.sd == 0.0
    assert permutation_within_items([np.ones((1, 1))] * 9, seed=0) is None, "no item has two users"


def test_results_become_plain_json():
    result = permutation_within_items([np.eye(4)], seed=0, permutations=9)
    stored = json.loads(json.dumps(result.as_json()))
    assert set(stored) == {"p", "sd", "observed", "null_mean", "n", "null"} and len(stored["null"]) == 9
    estimate = s.bootstrap_mean([1, 2], ["a", "b"], seed=0)
    assert set(json.loads(json.dumps(estimate.as_json()))) == {"value", "low", "high", "n"}
