"""The area under the ROC curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata


def auc(scores: ArrayLike, likes: ArrayLike) -> float:
    """Return the share of all pairs of a like and a dislike in which the like has the higher score, ties counted half.

    Parameters
    ----------
    scores
        float ``[n]``.
    likes
        bool ``[n]``.

    Returns
    -------
    float
        NaN where nothing is liked, or everything.

    Examples
    --------
    >>> auc([0.9, 0.5, 0.5, 0.1], [True, True, False, False]), auc([0.9], [True])
    (0.875, nan)
    """
    likes = np.asarray(likes, dtype=bool)
    positives, negatives = int(likes.sum()), int((~likes).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[likes].sum() - positives * (positives + 1) / 2) / (positives * negatives))
