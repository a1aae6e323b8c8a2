"""Which of two images of an item a user would prefer: what `preferred` learns from.

For a training user and an item that the user likes, `taste` says what to draw for several k (how many of the items of the best
scores make the style), and each of these conditions is drawn from the same few noises. The mean score over the noises ranks the
conditions, for a score under a single noise is the noise's more than the condition's. The best condition's image is preferred to
that of the worst from the same noise, unless the preferred one no longer shows the item.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from recgen.diffusion.conditions import Condition


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images of an item for a user, from the same noise.

    Attributes
    ----------
    user, item
        Their tokens.
    place
        The number of the noise.
    condition
        What `taste` itself draws the item for the user from.
    preferred, rejected
        Latents ``[1, channels, h, w]``, on the CPU.
    """

    user: str
    item: str
    place: int
    condition: Condition
    preferred: Tensor
    rejected: Tensor


def ranked(scores: np.ndarray, kept: np.ndarray) -> list[tuple[int, int, int]]:
    """Return (noise, preferred condition, rejected condition) of the pairs of one item and user.

    Parameters
    ----------
    scores
        float ``[conditions, noises]``, what is thought of each image.
    kept
        bool of that shape: does the image still show the item?

    Examples
    --------
    >>> ranked(np.array([[1.0, 5.0], [2.0, 0.0], [4.0, 4.0]]), np.array([[1, 1], [1, 1], [1, 0]], dtype=bool))
    [(0, 2, 1)]
    """
    means = scores.mean(axis=1)
    best, worst = int(means.argmax()), int(means.argmin())
    if means[best] == means[worst]:
        return []
    return [(noise, best, worst) for noise in range(scores.shape[1]) if kept[best, noise]]
