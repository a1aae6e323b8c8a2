"""Errors of means that share users and draws, against hand-made cases and counted false positives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recgen.metrics.crossed import crossed_difference, crossed_mean


def grid(values: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Values ``[draws, users]`` as a column, with their draws and users."""
    draws, users = values.shape
    return values.ravel(), {
        "draw": np.repeat(np.arange(draws), users),
        "user": np.tile([f"u{user}" for user in range(users)], draws),
    }


def test_where_only_draws_differ_it_is_the_t_test_over_draws():
    effect = np.array([0.1, 0.3, 0.2, 0.5, 0.4, 0.1])
    values, factors = grid(np.repeat(effect[:, None], 30, axis=1))
    found = crossed_difference(values, np.zeros_like(values), factors)
    expected = stats.ttest_1samp(effect, 0.0)
    assert (found.difference, found.n) == (pytest.approx(0.8 / 3), 6)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_the_variance_is_that_of_both_directions_less_what_is_counted_twice():
    values = np.random.default_rng(0).normal(size=(7, 40)) + np.arange(7)[:, None] / 5 + np.arange(40) / 20
    mean = values.mean()
    by_draw, by_user = values.mean(1).var(ddof=1) / 7, values.mean(0).var(ddof=1) / 40
    cells = ((values - mean) ** 2).sum() / (280 * 279)
    error = np.sqrt(by_draw + by_user - cells)
    column, factors = grid(values)
    found = crossed_mean(column, factors)
    assert found.high - mean == pytest.approx(stats.t.ppf(0.975, 6) * error)
    assert found.n == 7


def test_absent_values_are_left_out_and_too_few_draws_get_no_p():
    values, factors = grid(np.random.default_rng(1).normal(size=(4, 9)))
    column = np.append(values, np.nan)
    more = {"draw": np.append(factors["draw"], 9), "user": np.append(factors["user"], "u0")}
    assert crossed_mean(column, more) == crossed_mean(values, factors)
    four = crossed_difference(values, 0 * values, factors)
    assert four.p is None and four.low < four.difference < four.high
    one = crossed_difference(values[:9], 0 * values[:9], {name: each[:9] for name, each in factors.items()})
    assert (one.low, one.high, one.p, one.n) == (None, None, None, 1)
    assert crossed_mean([], {"draw": [], "user": []}).value is None
    assert crossed_difference(values, values, factors).difference == 0


@pytest.mark.parametrize(
    "draws, of_draws, of_users", [(5, 0.1, 0.0), (3, 0.1, 0.0), (5, 0.0, 0.2), (5, 0.05, 0.1)]
)
def test_no_more_than_a_twentieth_is_found_where_nothing_is(draws, of_draws, of_users):
    """Whichever varies: at five draws that differ, a percentile bootstrap over draws and users finds 16%."""
    rng, found = np.random.default_rng(draws), 0
    for _ in range(400):
        hits = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=(draws, 200))
        values = of_draws * rng.normal(size=(draws, 1)) + of_users * rng.normal(size=(1, 200)) + hits
        column, factors = grid(values)
        result = crossed_mean(column, factors)
        found += result.low > 0 or result.high < 0
    assert found / 400 <= 0.075
