"""How sure are we? Intervals and tests that say what they are."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recgen.metrics.personalisation import FloatArray

RESAMPLES = 2000
SIGN_FLIPS = 10_000
EXACT_UP_TO = 13  # 2**13 sign patterns are fewer than SIGN_FLIPS: then all of them are tried
ROWS_AT_ONCE = 500


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


@dataclass(frozen=True)
class Difference:
    """A paired difference a - b, its interval, and the p-value of `test` (None where that has no data)."""

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    test: str

    def as_json(self, a: str, b: str, metric: str) -> dict[str, Any]:
        """An entry of metrics.json's ``tests.paired``."""
        return {"a": a, "b": b, "metric": metric, **asdict(self)}


@dataclass(frozen=True)
class Permutation:
    """Result of `permutation_test`: see there."""

    p: float
    sd: float
    observed: float
    null_mean: float
    null: FloatArray = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """An entry of metrics.json's ``tests.permutation``; `null` is there for the report's plot."""
        return {**asdict(self), "null": [round(float(score), 6) for score in self.null]}


def bootstrap_mean(values: ArrayLike, users: ArrayLike, seed: int, level: float = 0.95) -> Estimate:
    """Mean over creatives with a percentile bootstrap interval that resamples users (2000 times).

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
    low, high = _percentiles(totals, counts, seed, level)
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
    Difference whose n counts requests.

    Examples
    --------
    >>> result = paired_difference([2.0, 3.0, 4.0], [1.0, 1.0, 1.0], ["u", "v", "w"], seed=0)
    >>> result.difference, result.p, result.test  # 2 of the 8 sign patterns are as extreme
    (2.0, 0.25, 'paired sign-flip permutation over users')
    """
    test = "paired sign-flip permutation over users"
    gap = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    totals, counts = _by_user(gap, users)
    n = int(counts.sum())
    if n == 0:
        return Difference(None, None, None, None, 0, test)
    low, high = _percentiles(totals, counts, seed, level)
    return Difference(float(totals.sum() / n), low, high, _sign_flip(totals, seed), n, test)


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
    / 32.

    Parameters
    ----------
    a, b
        ``[seeds]`` results of both sources, seed by seed.
    level
        Coverage of the interval.

    Returns
    -------
    Difference whose n is the number of seeds; no interval and no p for a single one, p 1 when every
    difference is zero.

    Examples
    --------
    >>> result = paired_seeds([0.2, 0.3, 0.4], [0.1, 0.1, 0.1])
    >>> round(result.difference, 4), round(result.p, 4)  # t = 0.2 / (0.1 / sqrt(3)), 2 degrees of freedom
    (0.2, 0.0742)
    """
    from scipy import stats

    gap = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    low, high = _t_interval(gap, level)
    if len(gap) < 2:
        p = None
    elif np.ptp(gap) == 0:  # no spread to test against: certain either way
        p = 1.0 if gap[0] == 0 else 0.0
    else:
        p = float(stats.ttest_1samp(gap, 0.0).pvalue)
    return Difference(float(gap.mean()) if len(gap) else None, low, high, p, len(gap), "paired t over seeds")


def permutation_test(
    scores: FloatArray, owners: ArrayLike, seed: int, permutations: int = 1000
) -> Permutation:
    """Were the creatives made for their users? (REBECA, algorithm 1.)

    The creatives are dealt out to users at random, each user getting as many as before, and scored again by
    the verifier.

    Parameters
    ----------
    scores
        ``[users, n]`` verifier score v(u, I) of every user for every creative.
    owners
        ``[n]`` the row of `scores` of the user for whom each creative was made.
    seed
        Seed of the permutations.
    permutations
        B.

    Returns
    -------
    Permutation: `observed`, the mean over users of their mean score for their own creatives; `null_mean` and
    `null` (``[B]``), the same after dealing; `p` = (1 + number of null scores >= observed) / (B + 1); `sd` =
    (observed - null_mean) / standard deviation of null, 0 when nothing varies.

    Examples
    --------
    >>> own_is_best = permutation_test(np.eye(40), np.arange(40), seed=0, permutations=199)
    >>> own_is_best.observed, own_is_best.p
    (1.0, 0.005)
    """
    own = np.asarray(owners, dtype=np.int64)
    values = np.asarray(scores, dtype=np.float64)
    made_for, images = np.unique(own, return_counts=True)
    per_user = dict(zip(made_for.tolist(), images.tolist(), strict=True))
    weights = np.array([1.0 / per_user[user] for user in own.tolist()])
    columns, rng = np.arange(len(own)), np.random.default_rng(seed)
    observed = float(weights @ values[own, columns]) / len(made_for)
    null = np.array([weights @ values[own, rng.permutation(columns)] for _ in range(permutations)])
    null /= len(made_for)
    slack = 1e-12 * max(1.0, abs(observed))  # a sum in another order is not a lower score
    spread = float(null.std())
    return Permutation(
        p=float((1 + np.count_nonzero(observed <= null + slack)) / (permutations + 1)),
        sd=float((observed - null.mean()) / spread) if spread > slack else 0.0,
        observed=observed,
        null_mean=float(null.mean()),
        null=null,
    )


def _by_user(values: ArrayLike, users: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and number of the values that are not NaN, for each user who has one."""
    numbers = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(numbers)
    rows = np.unique(np.asarray(users)[known], return_inverse=True)[1]
    totals = np.asarray(np.bincount(rows, weights=numbers[known]), dtype=np.float64)
    return totals, np.bincount(rows).astype(np.float64)


def _percentiles(
    totals: FloatArray, counts: FloatArray, seed: int, level: float
) -> tuple[float | None, float | None]:
    """Percentile interval of the mean when users are drawn with replacement."""
    users = len(totals)
    if users < 2:
        return None, None
    rng, means = np.random.default_rng(seed), []
    for start in range(0, RESAMPLES, ROWS_AT_ONCE):
        drawn = rng.integers(0, users, size=(min(ROWS_AT_ONCE, RESAMPLES - start), users))
        means.append(totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _sign_flip(totals: FloatArray, seed: int) -> float:
    users, observed = len(totals), abs(totals.sum())
    slack = 1e-12 * max(1.0, float(np.abs(totals).sum()))
    if users <= EXACT_UP_TO:
        signs: NDArray[np.int64] = 1 - 2 * ((np.arange(2**users)[:, None] >> np.arange(users)) & 1)
        return float(np.mean(np.abs(signs @ totals) >= observed - slack))
    rng, extreme = np.random.default_rng(seed), 0
    for start in range(0, SIGN_FLIPS, ROWS_AT_ONCE):
        flips = rng.integers(0, 2, size=(min(ROWS_AT_ONCE, SIGN_FLIPS - start), users), dtype=np.int8)
        flipped = np.abs(totals.sum() - 2.0 * (flips @ totals))
        extreme += int(np.count_nonzero(flipped >= observed - slack))
    return (1 + extreme) / (SIGN_FLIPS + 1)


def _t_interval(values: FloatArray, level: float) -> tuple[float | None, float | None]:
    from scipy import stats

    if len(values) < 2:
        return None, None
    error = values.std(ddof=1) / np.sqrt(len(values))
    margin = stats.t.ppf((1 + level) / 2, len(values) - 1) * error
    return float(values.mean() - margin), float(values.mean() + margin)
