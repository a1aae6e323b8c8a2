"""A user's scores of the catalogue: asked of the reward, weighed with the user's own likes, and taken net of content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from generators.common.refinement import Score
from generators.common.ridge import Ridge, centred
from generators.taste.catalogue import Catalogue
from generators.taste.likes import Basis, Encounters, Moments, Population
from generators.taste.shown import Looks
from generators.taste.trust import Trust
from recgen.data.types import RunData
from recgen.recommender.reward import RewardModel

_CELLS = 8_000_000
"""Scores held at once: users a chunk times items looked at."""
NOTHING = (np.zeros(0, np.int64), np.zeros(0, bool))


@dataclass(frozen=True)
class Belief:
    """What `fit` found out about all users.

    Attributes
    ----------
    basis, population
        In which, and under which, the posterior of a user's likes is calculated.
    trust
        How far reward and likes are believed.
    reward_mean
        float32 ``[N]``, R of (6).
    text_strength, tag_strength
        lambda of (1) for the items' texts and for their tags.
    """

    basis: Basis
    population: Population
    trust: Trust
    reward_mean: np.ndarray
    text_strength: float
    tag_strength: float = 1.0


@dataclass
class Sources:
    """What users' scores are made of, for one catalogue and one state of the data.

    Parameters
    ----------
    data
        The run's data.
    catalogue
        The items looked at.
    reward
        The ranking model, with a method ``score_all``; None for the users' own likes alone.
    basis, population
        See `Belief`.
    """

    data: RunData
    catalogue: Catalogue
    reward: RewardModel | None
    basis: Basis
    population: Population
    met: Mapping[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        data: RunData,
        catalogue: Catalogue,
        reward: RewardModel | None,
        basis: Basis,
        population: Population,
    ) -> Sources:
        """Return the sources with all encounters of `data`."""
        return cls(data, catalogue, reward, basis, population, Encounters.of(data).by_user())

    @cached_property
    def design(self) -> np.ndarray:
        """x of (3) for the items looked at, float32 ``[N, p]``."""
        return self.basis.design(self.catalogue.images).astype(np.float32)

    @cached_property
    def looks(self) -> Looks:
        """The images looked at, parted into content and style."""
        return Looks.of(self.catalogue.images, self.catalogue.texts)

    def counts(self, users: Sequence[int]) -> np.ndarray:
        """Return users' numbers of encounters ``[B]``; -1, no row number, has none."""
        return np.array([len(self.met.get(user, NOTHING)[0]) for user in users], dtype=np.float64)

    def coefficients(self, users: Sequence[int], without: Sequence[int] | None = None) -> np.ndarray:
        """Return the posterior's E[b_u] ``[B, p]`` of users, each without the encounters with one item (row numbers ``[B]``)."""
        rows = [self.met.get(user, NOTHING) for user in users]
        if without is not None:
            pairs = zip(rows, without, strict=True)
            rows = [(items[items != out], likes[items != out]) for (items, likes), out in pairs]
        moments = Moments.of(self.basis, self.data.image_features, rows)
        return self.population.posterior(moments.grams, moments.products)[0]

    def likes(self, users: Sequence[int], without: Sequence[int] | None = None) -> np.ndarray:
        """Return l of (6), float32 ``[B, N]``, centred; arguments as for `coefficients`."""
        return centred(self.coefficients(users, without).astype(np.float32) @ self.design.T)

    def rewards(self, users: Sequence[int]) -> np.ndarray:
        """Return r of (6), float32 ``[B, N]``, centred; zeros for users whom the reward cannot know."""
        found = np.zeros((len(users), len(self.catalogue.rows)), dtype=np.float32)
        known = [row for row, count in enumerate(self.counts(users)) if count > 0]
        if self.reward is not None and known:
            tokens = [self.data.user_ids[users[row]] for row in known]
            scores = self.reward.score_all(tokens, self.catalogue.item_ids)
            found[known] = centred(np.asarray(scores.detach().cpu(), dtype=np.float32))
        return found


class Asked:
    """Users' scores net of content.

    Parameters
    ----------
    sources
        Where they come from.
    belief
        What `fit` found out.
    """

    def __init__(self, sources: Sources, belief: Belief) -> None:
        self.sources, self.belief = sources, belief
        self.text_ridge = Ridge(sources.catalogue.texts, belief.text_strength)

    def ask(self, users: Sequence[int], items: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return users' scores net of content, float32 ``[B, N]``, and by source how far it was believed, ``[B]``.

        How far is the standard deviation over the catalogue of the source's part of (6), in logits.

        Parameters
        ----------
        users
            Row numbers ``[B]``; -1 for somebody unknown.
        items
            int64 ``[B]``, the row number of the item that is asked for; -1 for none. Neither its score nor whether the user liked
            it counts: an image that shows of whom it is liked would tell a recommender that learns from it what to rank. (What
            the reward has learned of the pair remains.)
        """
        belief, counts, sources = self.belief, self.sources.counts(users), self.sources
        own = sources.likes(users, items.tolist())
        parts = belief.trust.parts(sources.rewards(users), own, belief.reward_mean, counts)
        believed = {name: np.broadcast_to(part.std(axis=1), len(users)) for name, part in parts.items()}
        left_out = sources.catalogue.positions(items)
        return self.text_ridge.residuals(belief.trust.combine(parts), left_out), believed

    def chunks(self, n: int) -> Iterator[slice]:
        """Yield slices of n users, of a size that bounds memory."""
        size = max(_CELLS // len(self.sources.catalogue.rows), 1)
        for start in range(0, n, size):
            yield slice(start, min(start + size, n))

    def opinion(self, users: Sequence[int], items: Sequence[str], embeddings: np.ndarray) -> np.ndarray:
        """Return what (6) thinks of new images, float64 ``[B]``, up to a constant of each user and item.

        What everybody thinks of a new image is not asked apart: the reward's whole score is weighed as this user's. Whether the
        user liked the item does not count.
        """
        sources, trust = self.sources, self.belief.trust
        own = sources.coefficients(users, [sources.data.item_rows[item] for item in items])
        found = trust.likes * (own * sources.basis.design(embeddings)).sum(axis=1)
        if sources.reward is not None and trust.reward > 0:
            tokens = [sources.data.user_ids[user] for user in users]
            scores = np.asarray(
                sources.reward.score(tokens, items, embeddings).detach().cpu(), dtype=np.float64
            )
            found += trust.reward * trust.of_user(sources.counts(users)) * scores
        return found

    def differentiable(self, users: Sequence[str], items: Sequence[str]) -> Score | None:
        """Return `opinion` of users and items, by their tokens, as a function of images ``[B, D]`` that gradients pass.

        Of somebody unknown it is what everybody likes. None where the reward is believed and has no gradient.
        """
        sources, trust = self.sources, self.belief.trust
        rows = [sources.data.user_rows.get(user, -1) for user in users]
        posterior = sources.coefficients(rows, [sources.data.item_rows[item] for item in items])
        basis, own = sources.basis, torch.from_numpy(trust.likes * posterior).float()
        mean, directions = torch.from_numpy(basis.mean).float(), torch.from_numpy(basis.directions).float()
        known = [place for place, row in enumerate(rows) if row >= 0]
        believed = torch.from_numpy(trust.reward * trust.of_user(sources.counts(rows))[known]).float()
        reward = None
        if sources.reward is not None and trust.reward > 0 and known:
            reward = sources.reward.differentiable([users[n] for n in known], [items[n] for n in known])
            if reward is None:
                return None

        def score(images: torch.Tensor) -> torch.Tensor:
            found = own[:, 0] + (own[:, 1:] * ((images - mean) @ directions)).sum(1)
            if reward is not None:
                found = found.index_add(0, torch.tensor(known), believed * reward(images[known]))
            return found

        return score


@dataclass(frozen=True)
class Opinion:
    """What (6) thinks of new images, asked for as a ranking model's scores are; users whom nothing is known of have none."""

    asked: Asked

    def score(self, user_ids: Sequence[str], item_ids: Sequence[str], embeddings: np.ndarray) -> torch.Tensor:
        """Return `Asked.opinion` of users' images ``[B, D]``, float64 ``[B]``."""
        rows = self.asked.sources.data.user_rows
        known = [place for place, user in enumerate(user_ids) if user in rows]
        found = torch.zeros(len(user_ids), dtype=torch.float64)
        if known:
            users, items = [rows[user_ids[place]] for place in known], [item_ids[place] for place in known]
            found[known] = torch.from_numpy(self.asked.opinion(users, items, embeddings[known]))
        return found
