"""Intervals and tests against plain loops over the same random numbers, to the last digits."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from recgen.metrics import statistics as s
from recgen.metrics.permutation import permutation_within_items

VALUES = [0.3, 1.9, 0.2, 4.0, 0.1, 0.7, 2.2, 0.4, 0.9, 5.5, 0.6]
USERS = list("aaabccdeeee")
SUMS, COUNTS = np.array([2.4, 4.0, 0.8, 2.2, 7.4]), np.array([3, 1, 2, 1, 4])
TWELVE = np.random.default_rng(6).exponential(size=12)


def ratio_and_error(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """A mean over users' values, and its linearised standard error."""
    mean, n = sums.sum() / counts.sum(), len(sums)
    squares = sum((total - mean * count) ** 2 for total, count in zip(sums, counts, strict=True))
    return mean, np.sqrt(squares * n / (n - 1)) / counts.sum()


def studentised(level: float, sums: np.ndarray = SUMS, counts: np.ndarray = COUNTS) -> tuple[float, float]:
    mean, error = ratio_and_error(sums, counts)
    rng, deviations = np.random.default_rng(7), []
    for _ in range(2000):
        drawn = rng.integers(0, len(sums), size=len(sums))
        other, spread = ratio_and_error(sums[drawn], counts[drawn])
        deviations.append((other - mean) / max(spread, 0.25 * error))
    low, high = np.quantile(deviations, [(1 - level) / 2, (1 + level) / 2])
    return mean - high * error, mean - low * error


@pytest.mark.parametrize("level", [0.95, 0.6])
def test_the_studentised_interval(level):
    found = s.bootstrap_mean(VALUES, USERS, seed=7, level=level)
    assert found.value == pytest.approx(16.8 / 11) and found.n == 11
    assert (found.low, found.high) == pytest.approx(studentised(level), abs=1e-10)
    paired = s.paired_difference(VALUES, np.zeros(11), USERS, seed=7, level=level)
    assert (paired.low, paired.high) == (found.low, found.high)
    default = (
        s.bootstrap_mean(VALUES, USERS, seed=7),
        s.paired_difference(VALUES, np.zeros(11), USERS, seed=7),
    )
    if level == 0.95:
        assert default == (found, paired)


def test_there_are_two_thousand_resamples():
    """Twelve users draw few samples twice, so that one resample more or less moves the ends."""
    expected = pytest.approx(studentised(0.95, TWELVE, np.ones(12)), abs=1e-10)
    assert s.studentised(TWELVE, np.ones(12), seed=7) == expected


def test_a_single_value_is_its_mean():
    assert s.bootstrap_mean([2.0], ["a"], seed=0) == s.Estimate(2.0, None, None, 1)
    one = s.paired_difference([3.0], [1.0], ["a"], seed=0)
    assert (one.difference, one.low, one.p, one.n, one.needed) == (2.0, None, None, 1, None)


@pytest.mark.parametrize("scale", [0.1, 1e6 / 23])
def test_what_only_rounding_spreads_has_no_spread(scale):
    alike = s.paired_difference(np.full(7, scale), np.zeros(7), list("aaabbcc"), seed=0)
    assert alike.detectable == 0.0 and alike.low == alike.high == pytest.approx(scale)


def test_an_interval_ends_where_what_is_measured_does():
    """One that lies beyond altogether is a point at that end; where there is no interval none is made."""
    assert s.Estimate(0.5, -0.2, 1.3, 9).within((0, 1)) == s.Estimate(0.5, 0.0, 1.0, 9)
    assert s.Estimate(0.5, 1.2, 1.3, 9).within((0, 1)) == s.Estimate(0.5, 1.0, 1.0, 9)
    assert s.Estimate(0.5, -0.3, -0.2, 9).within((0, 1)) == s.Estimate(0.5, 0.0, 0.0, 9)
    alone = s.Estimate(0.5, None, None, 1)
    assert alone.within((0, 1)) == alone and alone.within(None) == alone


def test_two_users_have_an_interval_and_equal_ones_a_point():
    two = s.bootstrap_mean([1.0, 2.0], ["a", "b"], seed=0)
    assert two.low < 1.5 < two.high
    flat = s.bootstrap_mean([0.1, 0.1, 0.1], ["a", "b", "c"], seed=0)
    assert flat.low == flat.high == pytest.approx(0.1, abs=1e-15)
    large = s.bootstrap_mean([1e6, 1e6 + 1e-5, 1e6], ["a", "b", "c"], seed=0)
    assert large.low < large.high, "a spread of a hundred-millionth of the values is one"


def test_what_a_paired_difference_could_have_found():
    found = s.paired_difference(VALUES, np.zeros(11), USERS, seed=7)
    mean, error = ratio_and_error(SUMS, COUNTS)
    both = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert found.detectable == pytest.approx(both * error, rel=1e-3)
    assert found.needed == int(np.ceil(11 * (both * error / mean) ** 2))
    assert s.power(0.0, 0.1, 100) == (0.2802, None) and s.power(0.1, None, 100) == (None, None)


def test_all_signs_of_thirteen_users_and_drawn_signs_of_fourteen():
    values = np.round(np.random.default_rng(2).normal(0.4, 1, 14), 3)
    signs = np.array(list(product([1, -1], repeat=13)))
    exact = np.mean(np.abs(signs @ values[:13]) >= abs(values[:13].sum()) - 1e-9)
    assert s.paired_difference(values[:13], np.zeros(13), np.arange(13), seed=3).p == exact
    rng, extreme = np.random.default_rng(3), 0
    for _ in range(20):
        for flips in rng.integers(0, 2, size=(500, 14), dtype=np.int8):
            extreme += abs((values * (1 - 2 * flips)).sum()) >= abs(values.sum()) - 1e-9
    assert s.paired_difference(values, np.zeros(14), np.arange(14), seed=3).p == (1 + extreme) / 10_001


def test_a_tie_with_the_observed_mean_counts_as_as_extreme():
    """Summed in another order 0.1 + 0.2 + 0.3 differ in the last digit; they are no less extreme for it."""
    values = np.array([0.1, 0.2, 0.3, 0.7, 1.1])
    assert s.paired_difference(values, np.zeros(5), list("abcde"), seed=0).p == 2 / 32
    assert s.paired_difference(values * 1e9 / 7, np.zeros(5), list("abcde"), seed=0).p == 2 / 32
    many = np.tile([0.1, 0.2, 0.3, 0.7], 5)
    assert s.paired_difference(np.zeros(20), np.zeros(20), np.arange(20), seed=0).p == 1.0
    assert s.paired_difference(many, many, np.arange(20), seed=0).p == 1.0


def test_the_mean_over_seeds():
    values = [0.061, 0.064, 0.060]
    margin = stats.t.ppf(0.8, 2) * stats.sem(values)
    found = s.seed_mean(values, level=0.6)
    assert (found.low, found.high) == pytest.approx((np.mean(values) - margin, np.mean(values) + margin))
    two = s.seed_mean([1.0, 3.0])
    assert (two.value, two.n) == (2.0, 2) and two.high - 2 == pytest.approx(stats.t.ppf(0.975, 1))
    assert s.seed_mean([]) == s.Estimate(None, None, None, 0)


def test_paired_seeds_say_what_so_many_could_find():
    gaps = np.array([0.02, 0.05, 0.01, 0.06, 0.03])
    found = s.paired_seeds(gaps, np.zeros(5), level=0.6)
    both = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert found.detectable == pytest.approx(both * stats.sem(gaps), rel=1e-3)
    assert found.needed == int(np.ceil(5 * (both * stats.sem(gaps) / gaps.mean()) ** 2)) and found.n == 5
    assert found.high - found.difference == pytest.approx(stats.t.ppf(0.8, 4) * stats.sem(gaps))
    two = s.paired_seeds([1.0, 2.0], [0.0, 0.0])
    assert two.detectable == pytest.approx(both * 0.5, rel=1e-3) and two.p is None
    one = s.paired_seeds([1.0], [0.0])
    assert (one.difference, one.detectable, one.needed, one.low) == (1.0, None, None, None)
    none = s.paired_seeds([], [])
    assert (none.difference, none.n, none.p) == (None, 0, None)
    reference = s.paired_seeds(gaps, np.zeros(5))
    assert reference.high - reference.difference == pytest.approx(stats.t.ppf(0.975, 4) * stats.sem(gaps))


def test_more_signs_are_flipped_where_none_of_the_first_was_as_extreme():
    certain = s.paired_difference(np.linspace(1, 2, 40), np.zeros(40), np.arange(40), seed=3)
    assert certain.p == 1 / 100_001
    rng = np.random.default_rng(3)
    likely = s.paired_difference(rng.normal(0.4, 1, 40), np.zeros(40), np.arange(40), seed=3)
    assert (likely.p * 10_001) == pytest.approx(round(likely.p * 10_001)) and 1 / 10_001 < likely.p < 0.1


def test_holm_by_hand():
    assert s.holm([0.7, 0.6]) == [1.0, 1.0] and s.holm([]) == []
    assert s.holm([0.02, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])


def test_permutations_within_items():
    rng = np.random.default_rng(5)
    groups = [rng.uniform(size=(3, 3)), rng.uniform(size=(1, 1)), rng.uniform(size=(2, 2))]
    result = permutation_within_items(groups, seed=1, permutations=50)
    draw, totals = np.random.default_rng(1), np.zeros(50)
    for group in (groups[0], groups[2]):
        orders = draw.permuted(np.tile(np.arange(len(group)), (50, 1)), axis=1)
        for n, order in enumerate(orders):
            totals[n] += sum(group[user, image] for user, image in enumerate(order))
    observed = (np.trace(groups[0]) + np.trace(groups[2])) / 5
    assert result.observed == pytest.approx(observed) and result.n == 5
    np.testing.assert_allclose(result.null, totals / 5)
    assert result.p == (1 + np.sum(totals / 5 >= observed - 1e-9)) / 51
    assert result.sd == pytest.approx((observed - totals.mean() / 5) / (totals / 5).std())
    assert result.null_mean == pytest.approx(totals.mean() / 5)
    assert len(permutation_within_items(groups, seed=1).null) == 1000
    assert result.as_json()["null"] == [round(score, 6) for score in result.null.tolist()]
    tied = permutation_within_items([np.full((2, 2), 0.1), np.full((3, 3), 0.7)] * 3, seed=0, permutations=9)
    assert tied.p == 1.0 and tied.sd == 0.0
    huge = permutation_within_items([np.eye(2) * 1e6, np.eye(2)], seed=0, permutations=99)
    assert huge.observed == 500000.5 and huge.p < 0.5


@pytest.mark.parametrize("scale", [1.0, 1e6 / 3])
def test_equal_sums_in_another_order_are_ties_whatever_their_size(scale):
    group = scale * np.array([[0.1, 0.0], [0.3, 0.2]])
    assert np.trace(group) > group[0, 1] + group[1, 0], "only by rounding"
    assert permutation_within_items([group], seed=0, permutations=99).p == 1.0
    nearly_nothing = np.array([[0.1 + 0.2, 0.0], [0.0, -0.3]])
    assert permutation_within_items([nearly_nothing], seed=0, permutations=99).p == 1.0
