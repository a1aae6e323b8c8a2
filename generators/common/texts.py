"""Text embeddings as features of a regression, of items among which some have no text."""

from __future__ import annotations

import numpy as np


def filled(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return texts with the mean in the place of those that say nothing, and that mean.

    Parameters
    ----------
    texts
        float32 ``[N, E]``, raw embeddings; a text that is NaN or zeros says nothing.

    Returns
    -------
    tuple
        float32 ``[N, E]``, and the mean of the texts that say something, float32 ``[E]``; zeros where none does.

    Examples
    --------
    >>> [each.tolist() for each in filled(np.array([[1, 3], [0, 0], [5, 4], [np.nan, np.nan]], np.float32))]
    [[[1.0, 3.0], [3.0, 3.5], [5.0, 4.0], [3.0, 3.5]], [3.0, 3.5]]
    >>> filled(np.zeros((1, 2), np.float32))[1].tolist()
    [0.0, 0.0]
    """
    says = np.nan_to_num(texts).any(axis=1)
    mean = texts[says].mean(axis=0) if says.any() else np.zeros(texts.shape[1], texts.dtype)
    return np.where(says[:, None], texts, mean), mean
