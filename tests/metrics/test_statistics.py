"""Intervals that cover, tests that are calibrated, and both against scipy."""

import json

import numpy as np
import pytest
from scipy import stats

from recgen.metrics import statistics as s


def test_bootstrap_by_hand_and_against_scipy():
    rng = np.random.default_rng(0)
    values = rng.exponential(size=80)
    ours = s.bootstrap_mean(values, np.arange(80), seed=1)
    scipys = stats.bootstrap(
        (values,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean()) and ours.n == 80
    assert ours.low == pytest.approx(scipys.low, abs=0.03) and ours.high == pytest.approx(
        scipys.high, abs=0.03
    )


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
    assert s.paired_difference([np.nan, 1.0], [1.0, np.nan], ["a", "b"], seed=0).as_json("x", "y", "cis") == {
        "a": "x", "b": "y", "metric": "cis", "difference": None, "low": None, "high": None, "p": None, "n": 0,
        "test": "paired sign-flip permutation over users",
    }  # fmt: skip


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
    assert s.paired_seeds([0.5, 0.5], [0.5, 0.5]).p == 1.0


def algorithm_1(scores, owners, order):
    """Mean over users of their mean score, for creatives dealt by `order`, as loops."""
    users = sorted(set(owners))
    means = [np.mean([scores[u, order[i]] for i in range(len(owners)) if owners[i] == u]) for u in users]
    return float(np.mean(means))


def test_permutation_test_equals_algorithm_1_as_loops():
    rng = np.random.default_rng(10)
    scores, owners = rng.uniform(size=(6, 13)), np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 4, 4, 5, 5])
    scores[owners, np.arange(13)] += 0.2
    result = s.permutation_test(scores, owners, seed=3, permutations=50)
    draw = np.random.default_rng(3)
    null = np.array([algorithm_1(scores, owners, draw.permutation(13)) for _ in range(50)])
    observed = algorithm_1(scores, owners, range(13))
    assert result.observed == pytest.approx(observed) and np.allclose(result.null, null)
    assert result.p == (1 + (observed <= null).sum()) / 51
    assert result.sd == pytest.approx((observed - null.mean()) / null.std())
    assert result.null_mean == pytest.approx(null.mean())


def test_permutation_test_is_calibrated_when_creatives_ignore_the_user():
    rng = np.random.default_rng(11)
    p = [s.permutation_test(rng.uniform(size=(12, 24)), np.arange(24) // 2, t, 99).p for t in range(200)]
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_equal_creatives_are_no_evidence():
    # every creative the same image: each deal gives the same score, up to the order of the sum
    scores = np.repeat(np.random.default_rng(12).uniform(size=(7, 1)), 21, axis=1)
    result = s.permutation_test(scores, np.arange(21) % 7, seed=0)
    assert result.p == 1.0 and result.sd == 0.0


def test_results_become_plain_json():
    result = s.permutation_test(np.eye(4), np.arange(4), seed=0, permutations=9)
    stored = json.loads(json.dumps(result.as_json()))
    assert set(stored) == {"p", "sd", "observed", "null_mean", "null"} and len(stored["null"]) == 9
    estimate = s.bootstrap_mean([1, 2], ["a", "b"], seed=0)
    assert set(json.loads(json.dumps(estimate.as_json()))) == {"value", "low", "high", "n"}
