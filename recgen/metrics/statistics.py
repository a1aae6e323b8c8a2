"""How sure are we? Intervals and tests that say what they are, and how large a run would have to be to tell.

What is drawn anew in a bootstrap is what the claim is about: users, and training seeds and draws of items where there are any.
No p-value comes from fewer than `UNITS` of them: three equal differences would give a p of 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recgen.metrics.personalisation import FloatArray
from recgen.metrics.resampling import SIGN_FLIPS, drawn_flips, drawn_users

EXACT_UP_TO = 13  # 2**13 sign patterns are fewer than SIGN_FLIPS: then all of them are tried
UNITS = 5
"""Fewest users, seeds or draws that a p-value is computed from."""
DRAWS = 3
"""Fewest draws that an interval over them says something from: of two, Student's t is 12.7, and it holds everything."""
LEAST_SPREAD = 0.25
"""Smallest standard error of a resample, as a share of the sample's: one without any spread would make an interval endless."""
POWER = 0.8
SIGNIFICANT = 0.05
"""The p-value, corrected where several are tested, below which a difference is called clear."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its interval; `low` and `high` are None where there is no interval (one user, one seed)."""

    value: float | None
    low: float | None
    high: float | None
    n: int

    def as_json(self) -> dict[str, Any]:
        """The four fields as metrics.json holds them."""
        return asdict(self)

    def within(self, bounds: tuple[float, float] | None) -> Estimate:
        """Return the estimate with an interval that ends where what is measured does.

        A studentised interval of a share can reach beyond 0 or 1. No truth lies there: cut off, it holds the truth as often.

        >>> Estimate(0.98, 0.95, 1.004, 50).within((0, 1))
        Estimate(value=0.98, low=0.95, high=1.0, n=50)
        >>> Estimate(0.98, 0.95, 1.004, 50).within(None).high
        1.004
        """
        if bounds is None:
            return self
        least, most = map(float, bounds)
        low, high = (None if end is None else min(max(end, least), most) for end in (self.low, self.high))
        return replace(self, low=low, high=high)


@dataclass(frozen=True)
class Difference:
    """A paired difference a - b and its test.

    Attributes
    ----------
    difference, low, high
        The mean difference and its interval.
    p
        The p-value of `test`; None where fewer than `UNITS` units were compared.
    n
        Requests, or seeds.
    test
        What the test is.
    detectable
        The smallest difference that so many would find in 80 of 100 runs, at 0.05 two-sided; None without an interval.
    needed
        How many it would take to find a difference as large as this one as often; None where it is zero.
    """

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    test: str
    detectable: float | None = None
    needed: int | None = None

    def as_json(self, a: str, b: str, metric: str) -> dict[str, Any]:
        """An entry of metrics.json's ``tests.paired``."""
        return {"a": a, "b": b, "metric": metric, **asdict(self)}


def bootstrap_mean(values: ArrayLike, users: ArrayLike, seed: int, level: float = 0.95) -> Estimate:
    """Mean over creatives with a studentised bootstrap interval that resamples users (2000 times).

    Studentised (Efron and Tibshirani 1993, section 12.5), since a percentile interval of a skewed metric such as Delta R holds
    the truth in 88 to 91 of 100 samples of 40 to 120 users; ``experiments/instruments`` counts it.

    Parameters
    ----------
    values
        ``[n]`` one value per creative; NaN is left out.
    users
        ``[n]`` the user of each creative; all creatives of a drawn user are drawn together.
    seed
        Seed of the resampling.
    level
        Coverage of the interval.

    Returns
    -------
    Estimate whose n counts the values that are not NaN; value None if there are none, no interval for a
    single user.

    Examples
    --------
    >>> bootstrap_mean([1.0, 3.0, float("nan")], ["a", "a", "b"], seed=1)
    Estimate(value=2.0, low=None, high=None, n=2)
    >>> estimate = bootstrap_mean(range(100), range(100), seed=1)
    >>> estimate.value, 40 < estimate.low < 46, 53 < estimate.high < 59
    (49.5, True, True)
    """
    totals, counts = _by_user(values, users)
    n = int(counts.sum())
    if n == 0:
        return Estimate(None, None, None, 0)
    low, high = studentised(totals, counts, seed, level)
    return Estimate(float(totals.sum() / n), low, high, n)


def paired_difference(
    a: ArrayLike, b: ArrayLike, users: ArrayLike, seed: int, level: float = 0.95
) -> Difference:
    """Mean difference of two generators over the same requests, and a sign-flip permutation test by user.

    If a and b were alike, each user's summed difference could as well have had the other sign; p is the share
    of sign patterns whose mean is at least as far from zero (two-sided; all patterns for up to 13 users, else
    10,000 drawn and 1 added to both counts).

    Parameters
    ----------
    a, b
        ``[n]`` the metric of both generators, request by request; a request with a NaN in either is left out.
    users
        ``[n]`` the user of each request.
    seed
        Seed of the bootstrap and of the sign flips.
    level
        Coverage of the interval (bootstrap over users).

    Returns
    -------
    Difference whose n counts requests; without a p for fewer than five users.

    Examples
    --------
    >>> result = paired_difference([2.0, 3.0, 4.0, 2.0, 3.0], [1.0] * 5, list("uvwxy"), seed=0)
    >>> result.difference, result.p, result.test  # 2 of the 32 sign patterns are as extreme
    (1.8, 0.0625, 'paired sign-flip permutation over users')
    """
    test = "paired sign-flip permutation over users"
    gap = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    totals, counts = _by_user(gap, users)
    n = int(counts.sum())
    if n == 0:
        return Difference(None, None, None, None, 0, test)
    low, high = studentised(totals, counts, seed, level)
    mean = float(totals.sum() / n)
    p = _sign_flip(totals, seed) if len(totals) >= UNITS else None
    return Difference(mean, low, high, p, n, test, *power(mean, _standard_error(totals, counts), n))


def seed_mean(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean over training seeds with Student's t interval.

    Parameters
    ----------
    values
        ``[seeds]`` one result (such as Recall@10) per seed.
    level
        Coverage of the interval.

    Returns
    -------
    Estimate whose n is the number of seeds; no interval for a single one.

    Examples
    --------
    >>> seed_mean([0.1, 0.2, 0.3]).low.__round__(4)  # 0.2 - 4.3027 x 0.1 / sqrt(3)
    -0.0484
    """
    results = np.asarray(values, dtype=np.float64)
    low, high = _t_interval(results, level)
    return Estimate(float(results.mean()) if len(results) else None, low, high, len(results))


def paired_seeds(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Difference:
    """Mean difference of two sources over the same training seeds, and the paired t-test.

    The t-test rather than a permutation: with 5 seeds the smallest two-sided p that sign flips can give is 2
    / 32. It knows the noise of training only; that other images or other items might have been drawn, it does not.

    Parameters
    ----------
    a, b
        ``[seeds]`` results of both sources, seed by seed.
    level
        Coverage of the interval.

    Returns
    -------
    Difference whose n is the number of seeds; no interval for a single one, no p for fewer than five, p 1 when
    every difference is zero.

    Examples
    --------
    >>> result = paired_seeds([0.2, 0.3, 0.4, 0.3, 0.2], [0.1, 0.1, 0.1, 0.1, 0.1])
    >>> round(result.difference, 4), round(result.p, 4)  # t = 0.18 / (0.0837 / sqrt(5)), 4 degrees of freedom
    (0.18, 0.0086)
    >>> paired_seeds([0.2, 0.2, 0.2], [0.1, 0.1, 0.1]).p is None
    True
    """
    from scipy import stats

    test = "paired t over seeds"
    gap = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if len(gap) == 0:
        return Difference(None, None, None, None, 0, test)
    low, high = _t_interval(gap, level)
    p = None
    if len(gap) >= UNITS:  # no spread at all is certain either way
        p = float(stats.ttest_1samp(gap, 0.0).pvalue) if np.ptp(gap) else float(not gap.any())
    error = float(gap.std(ddof=1) / np.sqrt(len(gap))) if len(gap) > 1 else None
    mean = float(gap.mean())
    return Difference(mean, low, high, p, len(gap), test, *power(mean, error, len(gap)))


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Correct p-values for their number (Holm 1979); None stays None and does not count.

    Examples
    --------
    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    known = sorted((value, place) for place, value in enumerate(p) if value is not None)
    found: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (value, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * value))
        found[place] = highest
    return found


def power(difference: float, error: float | None, n: int) -> tuple[float | None, int | None]:
    """Return the smallest difference that n units would find, and how many would find a difference as large as this one.

    Parameters
    ----------
    difference, error
        The mean difference and its standard error.
    n
        How many units (requests, seeds) it comes from.

    Returns
    -------
    Both at 0.05 two-sided and a power of 80%, by the normal approximation: (1.96 + 0.84) standard errors. (None, None) without a
    standard error; the second is None where the difference is zero.

    Examples
    --------
    >>> power(0.1, 0.1, 100)
    (0.2802, 785)
    """
    from scipy.stats import norm

    if error is None:
        return None, None
    detectable = float(norm.ppf(1 - SIGNIFICANT / 2) + norm.ppf(POWER)) * error
    needed = ceil(n * (detectable / difference) ** 2) if difference else None
    return float(f"{detectable:.4g}"), needed


def _by_user(values: ArrayLike, users: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and number of the values that are not NaN, for each user who has one."""
    numbers = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(numbers)
    rows = np.unique(np.asarray(users)[known], return_inverse=True)[1]
    totals = np.asarray(np.bincount(rows, weights=numbers[known]), dtype=np.float64)
    return totals, np.bincount(rows).astype(np.float64)


def studentised(
    totals: FloatArray, counts: FloatArray, seed: int, level: float = 0.95
) -> tuple[float | None, float | None]:
    """Return the studentised interval of ``totals.sum() / counts.sum()`` when users are drawn with replacement.

    Parameters
    ----------
    totals, counts
        float64 ``[users]``: each user's sum of values, and of their weights (how many they are, without any).
    seed
        Seed of the resampling.
    level
        Coverage of the interval.

    Returns
    -------
    Its ends; (None, None) for a single user.
    """
    error = _standard_error(totals, counts)
    if error is None:
        return None, None
    mean = float(totals.sum() / counts.sum())
    if error == 0:
        return mean, mean
    deviations = np.concatenate(
        [
            (means - mean) / np.maximum(errors, LEAST_SPREAD * error)
            for means, errors in _resampled(totals, counts, seed)
        ]
    )
    low, high = np.quantile(deviations, [(1 - level) / 2, (1 + level) / 2])
    return mean - float(high) * error, mean - float(low) * error


def _resampled(
    totals: FloatArray, counts: FloatArray, seed: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield means and their standard errors of `RESAMPLES` samples of users, block by block."""
    users = len(totals)
    squares, crosses, sizes = totals**2, totals * counts, counts**2
    for drawn in drawn_users(seed, users):
        number = counts[drawn].sum(axis=1)
        means = totals[drawn].sum(axis=1) / number
        spread = squares[drawn].sum(axis=1) - 2 * means * crosses[drawn].sum(axis=1)
        spread += means**2 * sizes[drawn].sum(axis=1)
        yield means, np.sqrt(np.maximum(spread, 0.0) * users / (users - 1)) / number


def _standard_error(totals: FloatArray, counts: FloatArray) -> float | None:
    """Standard error of a ratio of sums over users, by linearisation; of a plain mean where each has one value."""
    users, number = len(totals), float(counts.sum())
    if users < 2:
        return None
    residuals = totals - totals.sum() / number * counts
    error = float(np.sqrt(np.sum(residuals**2) * users / (users - 1)) / number)
    return error if error > 1e-12 * max(1.0, float(np.abs(totals).max())) else 0.0


def _sign_flip(totals: FloatArray, seed: int) -> float:
    users, observed = len(totals), abs(totals.sum())
    slack = 1e-12 * max(1.0, float(np.abs(totals).sum()))
    if users <= EXACT_UP_TO:
        signs: NDArray[np.int64] = 1 - 2 * ((np.arange(2**users)[:, None] >> np.arange(users)) & 1)
        return float(np.mean(np.abs(signs @ totals) >= observed - slack))
    extreme, done = 0, 0
    for flips in drawn_flips(seed, users):
        flipped = np.abs(totals.sum() - 2.0 * (flips @ totals))
        extreme, done = extreme + int(np.count_nonzero(flipped >= observed - slack)), done + len(flips)
        if done == SIGN_FLIPS and extreme:
            break
    return (1 + extreme) / (done + 1)


def _t_interval(values: FloatArray, level: float) -> tuple[float | None, float | None]:
    from scipy import stats

    if len(values) < 2:
        return None, None
    error = values.std(ddof=1) / np.sqrt(len(values))
    margin = stats.t.ppf((1 + level) / 2, len(values) - 1) * error
    return float(values.mean() - margin), float(values.mean() + margin)
