"""Thompson sampling over the images that there are of each item: which arm to show while it is learned what each is worth.

For every item and arm the rate of clicks has a Beta posterior whose prior is the arm's rate over all items, worth `STRENGTH`
impressions: an item that was shown little is judged by what its arm earns elsewhere (Thompson 1933; Chapelle and Li 2011). An arm
is chosen with about the probability that it is the best. That probability is estimated from draws of the posterior and then used
as it is, so that it is known exactly by which probability an arm was shown: what off-policy estimates need.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recgen.metrics.personalisation import FloatArray

STRENGTH = 20.0
"""Impressions that the prior of an item's arm is worth."""
DRAWS = 100
"""Draws of the posterior by which probabilities are estimated."""
_ROWS = 4_096  # choices whose draws are held at once


class ThompsonSampling:
    """Counts of what was shown and clicked, and what follows from them.

    Parameters
    ----------
    items
        How many items.
    arms
        Names of the arms.

    Attributes
    ----------
    shown, clicked
        float64 ``[items, arms]``.

    Examples
    --------
    >>> learner = ThompsonSampling(1, ["original", "taste"])
    >>> learner.update(np.zeros(400, int), np.arange(400) % 2, np.arange(400) % 2 == 1)  # only taste is clicked
    >>> (learner.probabilities(np.array([0]), np.random.default_rng(0))[0] > 0.9).tolist()
    [False, True]
    """

    def __init__(self, items: int, arms: Sequence[str]) -> None:
        self.arms = list(arms)
        self.shown = np.zeros((items, len(self.arms)))
        self.clicked = np.zeros((items, len(self.arms)))

    def update(self, items: NDArray[np.int64], arms: NDArray[np.int64], clicks: NDArray[np.bool_]) -> None:
        """Count impressions: `items` and `arms` are int ``[n]``, rows and columns, and `clicks` is bool ``[n]``."""
        np.add.at(self.shown, (items, arms), 1.0)
        np.add.at(self.clicked, (items, arms), np.asarray(clicks, dtype=np.float64))

    def posterior(self) -> tuple[FloatArray, FloatArray]:
        """Return the two parameters of every item's and arm's Beta posterior, float64 ``[items, arms]`` each."""
        rate = (self.clicked.sum(axis=0) + 1.0) / (self.shown.sum(axis=0) + 2.0)
        missed = self.shown - self.clicked
        return self.clicked + STRENGTH * rate, missed + STRENGTH * (1.0 - rate)

    def probabilities(
        self, items: NDArray[np.int64], rng: np.random.Generator, there: NDArray[np.bool_] | None = None
    ) -> FloatArray:
        """Return with what probability each arm is to be shown, float64 ``[n, arms]``; every arm that is there has some.

        Parameters
        ----------
        items
            int ``[n]``, the item of each choice.
        rng
            Draws the posterior.
        there
            bool ``[n, arms]``, which arms there is an image of; None: all.
        """
        first, second = self.posterior()
        found = np.empty((len(items), len(self.arms)))
        for start in range(0, len(items), _ROWS):
            rows = items[start : start + _ROWS]
            known = (
                np.ones((len(rows), len(self.arms)), dtype=bool)
                if there is None
                else there[start : start + _ROWS]
            )
            drawn = rng.beta(first[rows], second[rows], (DRAWS, len(rows), len(self.arms)))
            best = np.where(known, drawn, -1.0).argmax(axis=2)
            counts = (best[:, :, None] == np.arange(len(self.arms))).sum(axis=0)
            share = (counts + 0.5) * known
            found[start : start + _ROWS] = share / share.sum(axis=1, keepdims=True)
        return found


def choose(probabilities: FloatArray, uniform: FloatArray) -> NDArray[np.int64]:
    """Return a column for each row of probabilities ``[n, k]`` by numbers ``[n]`` drawn from [0, 1).

    >>> choose(np.array([[0.2, 0.8], [1.0, 0.0]]), np.array([0.3, 0.9])).tolist()
    [1, 0]
    """
    reached = np.cumsum(probabilities, axis=1)
    last = probabilities.shape[1] - 1
    return np.minimum((uniform[:, None] >= reached).sum(axis=1), last).astype(np.int64)
