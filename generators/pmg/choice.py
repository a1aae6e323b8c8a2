"""Which weight of preference against target a request gets: the image that CLIP finds closest to both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_LEAST = 1e-6  # a cosine at or below zero is no likeness at all
_DIGITS = 4  # differences that the batch's rounding could make are ties


def likeness(images: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return d, the cosine of each image's embedding ``[..., D]`` with an embedding ``[D]``; NaN where `target` is NaN or 0."""
    images, target = images.astype(np.float64), target.astype(np.float64)
    lengths = np.linalg.norm(images, axis=-1) * np.linalg.norm(target)
    with np.errstate(invalid="ignore", divide="ignore"):
        return images @ target / lengths


def scores(to_preference: np.ndarray, to_target: np.ndarray, alpha: float) -> np.ndarray:
    """Return z = alpha log d_p + (1 - alpha) log d_t of images, float64 ``[n]``.

    A likeness that is not known (NaN: a user without keywords, an item without text) is left out.
    """
    parts = ((alpha, to_preference), (1 - alpha, to_target))
    logs = [weight * np.log(np.maximum(likenesses, _LEAST)) for weight, likenesses in parts]
    return np.nansum(logs, axis=0)


def best(values: Sequence[float] | np.ndarray) -> int:
    """Return the position of the largest score; of equal ones, the first."""
    return int(np.argmax(np.round(values, _DIGITS)))


def mean_direction(embeddings: np.ndarray) -> np.ndarray:
    """Return the mean of embeddings ``[n, D]`` scaled to length 1, float64 ``[D]``; NaN where there are none."""
    if not len(embeddings):
        return np.full(embeddings.shape[1], np.nan)
    embeddings = embeddings.astype(np.float64)
    return (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).mean(axis=0)
