"""How far a judge can be believed: its scores against a known truth, over images of one item for one user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from recgen.core.seeding import seed_for
from recgen.metrics.resampling import RESAMPLES
from recgen.metrics.statistics import Estimate

KEYS = ("score_gain_judge", "true_utility_gain")
"""What the judge and what the truth say of a creative."""


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


def calibrated(
    own: Mapping[str, pd.DataFrame], swapped: Mapping[str, pd.DataFrame], run_seed: int
) -> dict[str, dict[str, Any]]:
    """Return how far a run's judge agrees with its truth, by what the images of a request differ in; nothing without a truth.

    Parameters
    ----------
    own, swapped
        The generators' metrics per request, and those of other users' creatives, by generator.
    run_seed
        Seed of the bootstrap.

    Returns
    -------
    Estimates for ``generators``, what several made of a request, and ``users``, a generator's own and another user's creative.
    """
    keys = ["user_id", "item_id", *KEYS]
    if not all(key in table for table in own.values() for key in keys):
        return {}
    both = [
        table[keys].assign(source=name)
        for name in own
        if name in swapped
        and set(keys) <= set(swapped[name])  # a generator may have no other user's creative
        for table in (own[name], swapped[name])
    ]
    found = {"generators": [table[keys] for table in own.values()] if len(own) > 1 else [], "users": both}
    seed = seed_for(run_seed, "calibration")
    return {kind: _estimate(pd.concat(tables), seed).as_json() for kind, tables in found.items() if tables}


def _estimate(table: pd.DataFrame, seed: int) -> Estimate:
    source = table.get("source", "")
    requests = source + "\x1f" + table["user_id"] + "\x1f" + table["item_id"]
    judge, truth = KEYS
    return within_requests(requests.tolist(), table["user_id"].tolist(), table[judge], table[truth], seed)


def _correlation(sums: np.ndarray) -> np.ndarray:
    """Return correlations ``[B]`` of sums ``[B, 3]`` of xy, xx and yy; NaN where one of the two does not vary."""
    spread = sums[:, 1] * sums[:, 2]
    return np.where(spread > 0, sums[:, 0] / np.sqrt(np.where(spread > 0, spread, 1.0)), np.nan)
