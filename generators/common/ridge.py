"""Ridge regression of many users' scores on one set of item features, with the requested item left out exactly.

With centred features X ``[N, D]`` and the scores y ``[N]`` of one user, centred over the items that count, the coefficients are

    b = (X'X + lambda I)^-1 X'y                                                                   (1)

One matrix serves all users, because X and lambda are shared. Leaving out item i is solving (1) with y_i replaced by what the
other items predict for it,

    y_i  <-  y_i - e_i / (1 - h_ii),    e = y - Xb,    h_ii = x_i'(X'X + lambda I)^-1 x_i        (2)

the known identity of leave-one-out residuals, so that the score of the requested item changes nothing.
"""

from __future__ import annotations

import numpy as np

_GRID = np.logspace(-4, 3, 15)
"""Candidates of lambda, in units of the mean squared length of a feature column."""


class Ridge:
    """The regression for a set of items.

    Parameters
    ----------
    features
        float ``[N, D]``, one row per item; they are centred here.
    strength
        lambda, in units of the mean of X'X's diagonal.
    """

    def __init__(self, features: np.ndarray, strength: float) -> None:
        self.features = _centred_features(features)
        gram = self.features.T @ self.features
        scale = max(float(np.trace(gram)) / len(gram), 1e-12)
        inverse = np.linalg.inv(gram.astype(np.float64) + strength * scale * np.eye(len(gram)))
        self.inverse = inverse.astype(np.float32)

    def coefficients(self, scores: np.ndarray, left_out: np.ndarray) -> np.ndarray:
        """Return (1) for B users, float32 ``[B, D]``.

        Parameters
        ----------
        scores
            float32 ``[B, N]``.
        left_out
            int64 ``[B]``, the column that says nothing about each user, by (2); -1 for none.
        """
        scores = centred(scores, left_out)
        found = scores @ self.features @ self.inverse
        users = np.flatnonzero(left_out >= 0)
        rows = self.features[left_out[users]]
        influence = rows @ self.inverse
        leverage = (influence * rows).sum(axis=1)
        errors = scores[users, left_out[users]] - (found[users] * rows).sum(axis=1)
        found[users] -= influence * (errors / np.maximum(1 - leverage, 1e-6))[:, None]
        return found

    def residuals(self, scores: np.ndarray, left_out: np.ndarray) -> np.ndarray:
        """Return what (1) does not explain, float32 ``[B, N]``, 0 at the column left out; arguments as for `coefficients`."""
        scores = centred(scores, left_out)
        rest = scores - self.coefficients(scores, left_out) @ self.features.T
        users = np.flatnonzero(left_out >= 0)
        rest[users, left_out[users]] = 0
        return rest

    def sigma(self, scores: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
        """Return the standard deviation ``[B]`` of what coefficients ``[B, D]`` leave of the scores ``[B, N]``."""
        rest = np.square(scores - coefficients @ self.features.T).sum(axis=1)
        items, columns = self.features.shape
        return np.sqrt(rest / max(items - columns, 1))


def best_strength(features: np.ndarray, scores: np.ndarray) -> float:
    """Return lambda, in units of the mean of X'X's diagonal, by generalised cross-validation over all users together.

    GCV(lambda) = |Y - HY|^2 / (1 - tr H / N)^2, with H the projection of (1).

    Parameters
    ----------
    features
        float ``[N, D]``.
    scores
        float ``[U, N]``, centred over items.
    """
    centred = _centred_features(features).astype(np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    kept = values > values[-1] * 1e-9
    values, vectors = values[kept], vectors[:, kept]
    projected = ((scores @ (centred @ vectors)) ** 2).sum(axis=0) / values
    total, n, scale = (
        float((scores.astype(np.float64) ** 2).sum()),
        len(features),
        values.sum() / centred.shape[1],
    )
    losses = []
    for strength in _GRID:
        shrunk = values / (values + strength * scale)
        unexplained = total - (projected * (2 * shrunk - shrunk**2)).sum()
        losses.append(unexplained / (1 - (shrunk.sum() + 1) / n) ** 2)
    return float(_GRID[int(np.argmin(losses))])


def centred(scores: np.ndarray, left_out: np.ndarray | None = None) -> np.ndarray:
    """Return scores ``[B, N]`` less each user's mean over the items but the one left out (int64 ``[B]``; -1 for none)."""
    totals, counts = scores.sum(axis=1), np.full(len(scores), scores.shape[1])
    if left_out is not None:
        users = np.flatnonzero(left_out >= 0)
        totals[users] -= scores[users, left_out[users]]
        counts[users] -= 1
    return scores - (totals / np.maximum(counts, 1)).astype(scores.dtype)[:, None]


def _centred_features(features: np.ndarray) -> np.ndarray:
    values = np.asarray(features, dtype=np.float32)
    return values - values.mean(axis=0, dtype=np.float64).astype(np.float32)
