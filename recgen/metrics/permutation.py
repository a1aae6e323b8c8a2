"""Were the images made for their users? REBECA's permutation test, among the users of one item."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recgen.metrics.personalisation import FloatArray


@dataclass(frozen=True)
class Permutation:
    """Result of `permutation_within_items`: see there."""

    p: float
    sd: float
    observed: float
    null_mean: float
    n: int
    null: FloatArray = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """An entry of metrics.json's ``tests.permutation``; `null` is there for the report's plot."""
        return {**asdict(self), "null": [round(float(score), 6) for score in self.null]}


def permutation_within_items(
    groups: Iterable[FloatArray], seed: int, permutations: int = 1000
) -> Permutation | None:
    """Test whether users' own images of an item fit them better than other users' images of the same item.

    REBECA (algorithm 1) deals the images of all items out to all users. An image of an item that its user went on to like then
    passes whatever it was drawn from, the item's own image included; so here images change hands among the users of one item
    only, and what the item itself is worth cancels out. It is valid for any generator whose images of an item are exchangeable
    between users when it knows nothing of them.

    Parameters
    ----------
    groups
        For each item float ``[k, k]``, the score of its user u for the image made for its user v; own images on the diagonal.
        Items with a single user say nothing and are left out. They are read one after another and only sums of
        `permutations` numbers are kept: time and memory are linear in the requests where the users per item are bounded.
    seed
        Seed of the permutations.
    permutations
        B.

    Returns
    -------
    None where no item has two users. Else `observed`, the mean score of own images; `null` ``[B]`` and its mean, the same after
    dealing; `p` = (1 + number of null scores >= observed) / (B + 1); `sd` = (observed - null_mean) / standard deviation
    of null, 0 when nothing varies; `n`, how many images were compared.

    Examples
    --------
    >>> result = permutation_within_items([np.eye(2)] * 40, seed=0, permutations=199)
    >>> result.observed, result.p, result.n
    (1.0, 0.005, 80)
    """
    rng, n = np.random.default_rng(seed), 0
    own, dealt = 0.0, np.zeros(permutations)
    for group in groups:
        scores = np.asarray(group, dtype=np.float64)
        if len(scores) > 1:
            own += float(np.trace(scores))
            dealt += _dealt(scores, rng, permutations)
            n += len(scores)
    return _result(own / n, dealt / n, n) if n else None


def _dealt(scores: NDArray[np.float64], rng: np.random.Generator, times: int) -> NDArray[np.float64]:
    """Return the sums of scores after dealing one item's images to its users at random, float64 ``[times]``."""
    users = np.arange(len(scores))
    orders = rng.permuted(np.tile(users, (times, 1)), axis=1)
    return np.asarray(scores[users, orders].sum(axis=1))


def _result(observed: float, null: NDArray[np.float64], n: int) -> Permutation:
    slack = 1e-12 * max(1.0, abs(observed))  # a sum in another order is not a lower score
    spread, mean = float(null.std()), float(null.mean())
    return Permutation(
        p=float((1 + np.count_nonzero(observed <= null + slack)) / (len(null) + 1)),
        sd=float((observed - mean) / spread) if spread > slack else 0.0,
        observed=observed,
        null_mean=mean,
        n=n,
        null=null,
    )
