"""What a user's own likes and dislikes say of images, under what all users have in common.

The plainest answer is the contrast of a user: the mean embedding of what they liked less that of what they disliked, each with
pseudo-counts. It is what the following model says if every direction of the embeddings is equally likely to matter; the model
learns instead from all users which directions people differ in, and shrinks towards what they share. Its coefficients vary over
users (a linear mixed model, fitted by EM): with x the leading principal components of the image embedding and a constant, and
y = 1 for a like and 0 for a dislike,

    y = x'b_u + noise,   noise ~ N(0, s^2),   b_u ~ N(mu, Sigma)                                             (3)
    E[b_u] = V_u (Sigma^-1 mu + X_u'y_u / s^2),   V_u = (Sigma^-1 + X_u'X_u / s^2)^-1                        (4)
    mu = mean E[b_u],   Sigma = mean (V_u + (E[b_u] - mu)(E[b_u] - mu)'),
    s^2 = sum_u (|y_u - X_u E[b_u]|^2 + tr X_u'X_u V_u) / sum_u n_u                                          (5)

A user of no encounters gets mu, a user of one a step from it along what users differ in, a user of many their own regression.
Where nobody dislikes anything, likes are held against items drawn from the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from recgen.core.sampling import sample_excluding
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.types import RunData

_COMPONENTS, _ROUNDS, _LEARNED_FROM = 32, 30, 2000


def has_image(data: RunData) -> np.ndarray:
    """Return which items have an image, bool ``[n_items]``."""
    return np.isfinite(data.image_features).all(axis=1)


@dataclass(frozen=True)
class Encounters:
    """What users met: row numbers of users and items (int64 ``[n]``), and whether each was liked (bool ``[n]``)."""

    users: np.ndarray
    items: np.ndarray
    likes: np.ndarray

    @classmethod
    def of(cls, data: RunData) -> Encounters:
        """Return the encounters of a run with items that have an image.

        Where nobody dislikes anything, as many items that a user has not met as likes count as disliked, drawn by user.
        """
        table = data.interactions
        users, items = table["user"].to_numpy(np.int64), table["item"].to_numpy(np.int64)
        kept = has_image(data)[items]
        found = cls(users[kept], items[kept], table["like"].to_numpy(bool)[kept])
        return found.with_unmet(data) if found.likes.all() else found

    def with_unmet(self, data: RunData) -> Encounters:
        """Return the encounters and, of each user, as many items not met, disliked; drawn by the run's seed."""
        seen = has_image(data)
        free, place = np.flatnonzero(seen), np.cumsum(seen) - 1
        users, codes = np.unique(self.users, return_inverse=True)
        seeds = [seed_for(data.run_seed, "taste unmet", data.user_ids[user]) for user in users]
        owner, drawn = sample_excluding(
            np.array(seeds, dtype=np.uint64),
            np.bincount(codes),
            len(free),
            codes * len(free) + place[self.items],
        )
        return Encounters(
            np.concatenate([self.users, users[owner]]),
            np.concatenate([self.items, free[drawn]]),
            np.concatenate([self.likes, np.zeros(len(drawn), dtype=bool)]),
        )

    def without(self, others: Encounters) -> Encounters:
        """Return the encounters but for the users' with the items of `others`."""
        width = 1 + max(self.items.max(initial=0), others.items.max(initial=0))
        kept = ~np.isin(self.users * width + self.items, others.users * width + others.items)
        return Encounters(self.users[kept], self.items[kept], self.likes[kept])

    def by_user(self) -> ByUser:
        """Return each user's items and likes."""
        return ByUser(self)


class ByUser(Mapping[int, tuple[np.ndarray, np.ndarray]]):
    """Items and likes by user, cut out of columns when they are asked for; users in ascending order."""

    def __init__(self, encounters: Encounters) -> None:
        order = np.argsort(encounters.users, kind="stable")
        self._items, self._likes = encounters.items[order], encounters.likes[order]
        self._users, starts = np.unique(encounters.users[order], return_index=True)
        self._bounds = np.append(starts, len(order))

    def __getitem__(self, user: int) -> tuple[np.ndarray, np.ndarray]:
        place = int(np.searchsorted(self._users, user))
        if place == len(self._users) or self._users[place] != user:
            raise KeyError(user)
        mine = slice(self._bounds[place], self._bounds[place + 1])
        return self._items[mine], self._likes[mine]

    def __iter__(self) -> Iterator[int]:
        return iter(self._users.tolist())

    def __len__(self) -> int:
        return len(self._users)


@dataclass(frozen=True)
class Basis:
    """The principal components in which the posterior is calculated.

    Attributes
    ----------
    mean
        float64 ``[D]``, the catalogue's mean embedding.
    directions
        float64 ``[D, d]``; components of the catalogue have variance 1.
    """

    mean: np.ndarray
    directions: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Basis:
        """Return the basis of a catalogue's embeddings ``[N, D]``."""
        values = features.astype(np.float64)
        mean = values.mean(axis=0)
        variances, vectors = np.linalg.eigh(np.cov(values, rowvar=False))
        kept = np.argsort(variances)[::-1][:_COMPONENTS]
        kept = kept[variances[kept] > variances.max() * 1e-6]
        signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(vectors))])
        return cls(mean, vectors[:, kept] * signs[kept] / np.sqrt(variances[kept]))

    def design(self, features: np.ndarray) -> np.ndarray:
        """Return x of (3), float64 ``[n, 1 + d]``, of embeddings ``[n, D]``."""
        components = (features.astype(np.float64) - self.mean) @ self.directions
        return np.hstack([np.ones((len(components), 1)), components])


@dataclass(frozen=True)
class Population:
    """mu ``[p]``, Sigma ``[p, p]`` and s^2 of (3)."""

    mean: np.ndarray
    covariance: np.ndarray
    noise: float

    def posterior(self, grams: np.ndarray, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (4) for U users: E[b_u] ``[U, p]`` and V_u ``[U, p, p]``, from X'X ``[U, p, p]`` and X'y ``[U, p]``."""
        precision = np.linalg.inv(self.covariance)
        # torch's batched inverse: numpy's wakes its threads for every matrix, 6.6 s against 0.2 for 943 users on a busy machine
        spread = torch.linalg.inv(torch.from_numpy(precision + grams / self.noise)).numpy()
        return np.einsum("upq,uq->up", spread, precision @ self.mean + moments / self.noise), spread


@dataclass(frozen=True)
class Moments:
    """What (4) reads of each user: X'X ``[U, p, p]``, X'y ``[U, p]``, y'y ``[U]`` and the number of encounters ``[U]``."""

    grams: np.ndarray
    products: np.ndarray
    squares: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, basis: Basis, features: np.ndarray, users: list[tuple[np.ndarray, np.ndarray]]) -> Moments:
        """Return the moments of users by their (items, likes)."""
        p = basis.directions.shape[1] + 1
        grams, products = np.zeros((len(users), p, p)), np.zeros((len(users), p))
        for row, (items, likes) in enumerate(users):
            design = basis.design(features[items])
            grams[row], products[row] = design.T @ design, design.T @ likes
        counts = np.array([len(items) for items, _ in users], dtype=np.float64)
        return cls(grams, products, np.array([likes.sum() for _, likes in users], dtype=np.float64), counts)


def learn_population(moments: Moments) -> Population:
    """Return the population's mu, Sigma and s^2 by expectation-maximisation over users; where it starts without encounters."""
    p, encounters = moments.products.shape[1], moments.counts.sum()
    rate = moments.squares.sum() / max(encounters, 1)
    start = np.zeros(p)
    start[0] = rate
    found = Population(start, np.eye(p) * 0.02, max(rate * (1 - rate), 0.01))
    for _ in range(_ROUNDS if encounters else 0):
        found = _improved(found, moments)
    return found


def _improved(population: Population, moments: Moments) -> Population:
    """Return the population after one round of EM (4, 5); a small ridge keeps Sigma invertible."""
    means, spreads = population.posterior(moments.grams, moments.products)
    centre = means.mean(axis=0)
    deviations = means - centre
    covariance = (deviations.T @ deviations + spreads.sum(axis=0)) / len(means)
    fitted = np.einsum("up,upq,uq->u", means, moments.grams, means) - 2 * (means * moments.products).sum(
        axis=1
    )
    errors = moments.squares + fitted + np.einsum("upq,uqp->u", moments.grams, spreads)
    noise = max(float(errors.sum() / moments.counts.sum()), 1e-3)
    return Population(centre, covariance + 1e-6 * np.eye(len(centre)), noise)


def sample_of_users(users: list[int], data: RunData, stage: str, at_most: int = _LEARNED_FROM) -> list[int]:
    """Return users' row numbers, in order, or a sample of them that the run's seed decides."""
    if len(users) <= at_most:
        return sorted(users)
    drawn = numpy_rng(data.run_seed, stage).choice(np.array(sorted(users)), size=at_most, replace=False)
    return sorted(drawn.tolist())
