"""How far a judge can be believed: its scores against a known truth, over images of one item for one user."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from recgen.metrics.statistics import RESAMPLES, Estimate


def within_requests(
    requests: Sequence[str], users: Sequence[str], judge: ArrayLike, truth: ArrayLike, seed: int
) -> Estimate:
    """Correlation of judge and truth within requests, pooled over them, with a percentile bootstrap interval over users.

    Both are taken as deviations from their means over the request's images, so that neither what a user thinks of the item nor
    how a user or a judge scores in general counts; requests of which the truth says more weigh more.

    Parameters
    ----------
    requests, users
        ``[n]``, the request and the user of each image.
    judge, truth
        ``[n]``, what the judge and the truth say of it; images of which either is not finite are left out.
    seed
        Seed of the bootstrap.

    Returns
    -------
    The correlation, from -1 to 1, with the number of requests that have two images or more; no value where judge or truth says
    the same of all images of a request, in every request.

    Examples
    --------
    >>> found = within_requests(["a"] * 3 + ["b"] * 3, ["u"] * 3 + ["v"] * 3, [1, 2, 3, 13, 12, 11], [0, 1, 2, 7, 6, 5], seed=0)
    >>> found.value, found.n
    (1.0, 2)
    """
    table = pd.DataFrame({"request": list(requests), "user": list(users), "x": judge, "y": truth}).astype(
        {"x": float, "y": float}
    )
    table = table[np.isfinite(table["x"]) & np.isfinite(table["y"])]
    sizes = table.groupby("request")["x"].transform("size")
    table = table[sizes > 1]
    x, y = (
        (table[name] - table.groupby("request")[name].transform("mean")).to_numpy() for name in ("x", "y")
    )
    sums = pd.DataFrame({"xy": x * y, "xx": x * x, "yy": y * y}).groupby(table["user"].to_numpy()).sum()
    count = int(table["request"].nunique())
    value = _correlation(sums.to_numpy().sum(axis=0, keepdims=True))[0] if count else np.nan
    if not np.isfinite(value):
        return Estimate(None, None, None, count)
    if len(sums) == 1:
        return Estimate(float(value), None, None, count)
    drawn = np.random.default_rng(seed).multinomial(len(sums), [1 / len(sums)] * len(sums), RESAMPLES)
    low, high = np.nanquantile(_correlation(drawn @ sums.to_numpy()), [0.025, 0.975])
    return Estimate(round(float(value), 12), float(low), float(high), count)


def _correlation(sums: np.ndarray) -> np.ndarray:
    """Return correlations ``[B]`` of sums ``[B, 3]`` of xy, xx and yy; NaN where one of the two does not vary."""
    spread = sums[:, 1] * sums[:, 2]
    return np.where(spread > 0, sums[:, 0] / np.sqrt(np.where(spread > 0, spread, 1.0)), np.nan)
