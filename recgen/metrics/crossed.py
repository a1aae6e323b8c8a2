"""Means over observations that share users, trainings and draws of items: two-way clustered errors, with the draw as the unit.

Every training with its own draw of items answers for the same users, so that an effect may be one draw's, or some users', and not
hold for others. The variance of the mean is therefore that of a sum of clusters in each direction less what is counted twice
(Cameron, Gelbach and Miller 2011), never less than either direction's alone; and Student's t has one degree of freedom fewer than
the factor with the fewest levels has. A t-test over the draws alone is never stricter. A percentile bootstrap over the levels
(Owen's pigeonhole) was tried and found 16% differences at .05 where five draws differed and nothing else did.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recgen.metrics.statistics import UNITS, Difference, Estimate, power


def crossed_mean(values: ArrayLike, factors: Mapping[str, ArrayLike], level: float = 0.95) -> Estimate:
    """Mean with an interval that knows of other levels of every factor: other draws, other users.

    Parameters
    ----------
    values
        ``[n]``; NaN is left out.
    factors
        One or two names, in the singular, with labels ``[n]``: for example the draw and the user of each value.
    level
        Coverage of the interval.

    Returns
    -------
    Estimate whose n is the number of levels of the factor that has the fewest; no interval for fewer than two.

    Examples
    --------
    >>> draws, users = np.repeat(np.arange(3), 40), np.tile(np.arange(40), 3)
    >>> noise_of_draws = np.repeat([0.1, 0.2, 0.3], 40)
    >>> found = crossed_mean(noise_of_draws, {"draw": draws, "user": users})
    >>> round(found.value, 3), round(found.low, 4), found.n  # 0.2 - 4.3027 x 0.1 / sqrt(3)
    (0.2, -0.0484, 3)
    """
    mean, error, units = _clustered(values, factors)
    if mean is None or error is None:
        return Estimate(mean, None, None, units)
    margin = _quantile(level, units) * error
    return Estimate(mean, mean - margin, mean + margin, units)


def crossed_difference(
    a: ArrayLike, b: ArrayLike, factors: Mapping[str, ArrayLike], level: float = 0.95
) -> Difference:
    """Mean difference of two sources over the same draws and users; arguments and interval as in `crossed_mean`.

    Returns
    -------
    Difference whose n is the number of levels of the factor that has the fewest, and whose test names the factors; no p for
    fewer than five.

    Examples
    --------
    >>> draws, users = np.repeat(np.arange(5), 40), np.tile(np.arange(40), 5)
    >>> crossed_difference(np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], 40), np.zeros(200), {"draw": draws, "user": users}).test
    'two-way clustered t over draws and users'
    """
    from scipy import stats

    test = f"{'two-way ' if len(factors) > 1 else ''}clustered t over {' and '.join(f'{name}s' for name in factors)}"

    gap = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    mean, error, units = _clustered(gap, factors)
    if mean is None or error is None:
        return Difference(mean, None, None, None, units, test)
    margin = _quantile(level, units) * error
    p = None
    if units >= UNITS:
        p = float(2 * stats.t.sf(abs(mean) / error, units - 1)) if error > 0 else float(mean == 0)
    return Difference(mean, mean - margin, mean + margin, p, units, test, *power(mean, error, units))


def _quantile(level: float, units: int) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + level) / 2, units - 1))


def _clustered(values: ArrayLike, factors: Mapping[str, ArrayLike]) -> tuple[float | None, float | None, int]:
    """Return the mean, its standard error, and the fewest levels that a factor has."""
    numbers = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(numbers)
    numbers = numbers[known]
    if not len(numbers):
        return None, None, 0
    labels = [np.unique(np.asarray(each)[known], return_inverse=True)[1] for each in factors.values()]
    units, mean = min(int(each.max()) + 1 for each in labels), float(numbers.mean())
    if units < 2:
        return mean, None, units
    residuals = numbers - mean
    alone = [_variance(residuals, each) for each in labels]
    if len(labels) == 1:
        return mean, float(np.sqrt(alone[0])), units
    first, second = labels
    both = _variance(residuals, np.unique(first * (second.max() + 1) + second, return_inverse=True)[1])
    return mean, float(np.sqrt(max(sum(alone) - both, *alone))), units


def _variance(residuals: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the variance of the mean of clusters whose residuals are drawn together, float."""
    clusters = int(labels.max()) + 1
    sums = np.bincount(labels, weights=residuals)
    return float(clusters / max(clusters - 1, 1) * (sums**2).sum() / len(residuals) ** 2)
