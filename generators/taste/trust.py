"""How far each source is believed: a logistic regression on encounters that the reward was not trained on.

For user u and item j, with scores centred over the items of the catalogue and R the mean of the reward's scores over users,

    logit P(u likes j) = w_r t_u (r_uj - R_j) + w_l l_uj + w_e R_j + c,      t_u = n_u / (n_u + h)           (6)

r is the reward's score, l the posterior's of the user's own likes and dislikes (`generators.taste.likes`), n_u the number of
the user's encounters. The weights are those of all users; t_u trusts the reward less about users that it knows little of, with h
chosen by likelihood, and l shrinks by itself. A source with a negative weight is left out and the others fitted again: what
contradicts the users is not believed, and neither is its opposite.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import expit

HALF_TRUST = (0.0, 5.0, 20.0)
"""Candidates of h, in encounters: how many a user has whom the reward is trusted about half as much as at best."""
_PENALTY, _STEPS = 1.0, 30


@dataclass(frozen=True)
class Trust:
    """The weights of (6), in logits per unit of each source; 0 for a source that is not believed.

    Attributes
    ----------
    reward, likes, everybody
        w_r, w_l and w_e.
    half_trust
        h.
    encounters
        On how many encounters they were fitted; 0 where there were none, and the users' own likes are all that is believed.
    """

    reward: float
    likes: float
    everybody: float
    half_trust: float
    encounters: int

    def of_user(self, counts: np.ndarray) -> np.ndarray:
        """Return t_u, float64 ``[B]``, of users with these numbers of encounters ``[B]``."""
        return counts / np.maximum(counts + self.half_trust, 1)

    def parts(
        self, reward: np.ndarray, likes: np.ndarray, everybody: np.ndarray, counts: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the terms of (6) by source, float32 ``[B, N]``; everybody's is ``[1, N]``.

        Parameters
        ----------
        reward, likes
            float32 ``[B, N]``, centred over items.
        everybody
            R, float32 ``[N]``, centred.
        counts
            ``[B]``, numbers of encounters; about users of none the reward is not asked.
        """
        own = (self.reward * self.of_user(counts)).astype(np.float32)
        return {
            "reward": own[:, None] * (reward - everybody),
            "likes": np.float32(self.likes) * likes,
            "everybody": np.float32(self.everybody) * everybody[None],
        }

    def combine(self, parts: dict[str, np.ndarray]) -> np.ndarray:
        """Return (6) without c, float32 ``[B, N]``, from its terms."""
        return parts["reward"] + parts["likes"] + parts["everybody"]

    def as_json(self) -> dict[str, Any]:
        """Return the weights by name."""
        return asdict(self)


OWN_LIKES = Trust(0.0, 1.0, 0.0, 0.0, 0)
"""What is believed where nothing tells how good the reward is."""


def fit_trust(sources: np.ndarray, counts: np.ndarray, likes: np.ndarray) -> Trust:
    """Return the weights of (6).

    Parameters
    ----------
    sources
        float ``[n, 3]``: for each encounter r_uj - R_j, l_uj and R_j.
    counts
        ``[n]``, each user's number of encounters among those that the posterior has read.
    likes
        bool ``[n]``.
    """
    if likes.all() or not likes.any():
        return OWN_LIKES
    fits = []
    for half_trust in HALF_TRUST:
        values = sources.astype(np.float64)
        values[:, 0] *= counts / np.maximum(counts + half_trust, 1)
        fits.append((*_without_negative(values, likes), half_trust))
    _, weights, half_trust = min(fits, key=lambda fit: fit[0])
    reward, own, everybody = weights.tolist()
    return Trust(reward, own, everybody, half_trust, len(likes))


def _without_negative(values: np.ndarray, likes: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the loss and the weights of the sources, those with negative weights left out one by one, the worst first."""
    scales = values.std(axis=0)
    kept = np.flatnonzero(scales > 1e-9)
    while True:
        loss, found = logistic(values[:, kept] / scales[kept], likes)
        if not len(found) or found.min() >= 0:
            weights = np.zeros(values.shape[1])
            weights[kept] = found / scales[kept]
            return loss, weights
        kept = np.delete(kept, found.argmin())


def logistic(values: np.ndarray, likes: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the penalised negative log-likelihood and the weights ``[p]`` of a logistic regression with an intercept.

    Newton's method on float ``[n, p]`` features and bool ``[n]`` labels, weights penalised by their squares, halved.
    """
    design = np.hstack([values, np.ones((len(values), 1))])
    penalty = np.full(design.shape[1], _PENALTY)
    penalty[-1] = 1e-6
    weights = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        chance = expit(design @ weights)
        gradient = design.T @ (chance - likes) + penalty * weights
        hessian = (design * (chance * (1 - chance))[:, None]).T @ design + np.diag(penalty)
        weights -= np.linalg.solve(hessian, gradient)
    logits = design @ weights
    loss = float(np.logaddexp(0, np.where(likes, -logits, logits)).sum() + (penalty * weights**2).sum() / 2)
    return loss, weights[:-1]
