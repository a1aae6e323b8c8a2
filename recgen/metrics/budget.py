"""Which images to draw first when not all can be: those of the greatest predicted gain times traffic.

Where users share creatives an image's value is the sum over those who are shown it. The budget takes the first of this order,
which is the best choice where all images cost the same, as those of one generator do.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from recgen.core.seeding import numpy_rng
from recgen.metrics.personalisation import FloatArray

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Shares of all images at which the curve is read."""
ORDERS_AT_RANDOM = 200


def values(
    images: Sequence[Hashable], gain: ArrayLike, traffic: ArrayLike
) -> tuple[list[Hashable], FloatArray]:
    """Return the images that answer some requests, in the order in which they first come, and the value of each, float64.

    Parameters
    ----------
    images
        ``[n]``, which image answers each request.
    gain, traffic
        ``[n]``, what each request's user gains by it, and how often the user sees the item.

    Examples
    --------
    >>> values(["a", "b", "a"], [1.0, 2.0, 0.5], [1.0, 1.0, 4.0])
    (['a', 'b'], array([3., 2.]))
    """
    codes, known = pd.factorize(pd.Series(list(images), dtype=object))
    worth = np.asarray(gain, dtype=np.float64) * np.asarray(traffic, dtype=np.float64)
    value: FloatArray = np.bincount(codes, weights=worth, minlength=len(known)).astype(np.float64)
    return known.tolist(), value


def order(value: FloatArray) -> NDArray[np.int64]:
    """Return the positions of images of value float64 ``[k]`` in the order in which they are to be drawn, int64 ``[k]``.

    Of equal ones the first stays first.

    Examples
    --------
    >>> order(np.array([1.0, 3.0, 2.0])).tolist()
    [1, 2, 0]
    """
    return np.argsort(-value, kind="stable").astype(np.int64)


def curve(
    images: Sequence[Hashable], predicted: ArrayLike, measured: ArrayLike, traffic: ArrayLike, seed: int
) -> dict[str, Any]:
    """Return how much of all that the images earn a smaller budget would have earned.

    Parameters
    ----------
    images
        ``[n]``, which image answers each request.
    predicted
        ``[n]``, the gain that decides the order.
    measured
        ``[n]``, the gain that was measured, by truth or judge; NaN counts as nothing.
    traffic
        ``[n]``.
    seed
        Seed of the orders at random.

    Returns
    -------
    dict
        ``shares`` of the images; ``earned``, the measured gain times traffic of the first images as a share of that of all, in
        the order of predicted gain times traffic; ``random``, the mean of `ORDERS_AT_RANDOM` orders; ``best``, in the order of
        the measured gain itself, which nobody knows beforehand; ``images`` and ``total`` of all.
    """
    seen = np.nan_to_num(np.asarray(measured, dtype=np.float64))
    _, expected = values(images, predicted, traffic)
    _, real = values(images, seen, traffic)
    counts = [max(round(share * len(real)), 1) for share in SHARES]
    total = float(real.sum())
    rng = numpy_rng(seed, "budget at random")
    shuffled = np.mean(
        [_reached(real[rng.permutation(len(real))], counts) for _ in range(ORDERS_AT_RANDOM)], axis=0
    )
    found = {
        "earned": _reached(real[order(expected)], counts),
        "random": shuffled,
        "best": _reached(real[order(real)], counts),
    }
    shares = {name: None if total <= 0 else (each / total).tolist() for name, each in found.items()}
    return {"shares": list(SHARES), "images": len(real), "total": total, **shares}


def _reached(gains: FloatArray, counts: Sequence[int]) -> FloatArray:
    """Return the sum of the first gains for each count."""
    return np.cumsum(gains)[np.array(counts) - 1]
