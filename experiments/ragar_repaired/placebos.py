"""Recommenders whose scores of the catalogue are not the user's own: what retrieval gains by them is no taste of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from recgen.core.seeding import numpy_rng
from recgen.data.types import RunData

Scores = Callable[[Sequence[str], Sequence[str]], torch.Tensor]


class Placebo:
    """A reward that tells a retrieval something else about users; all other questions it answers as ever.

    Parameters
    ----------
    reward
        The reward.
    score_all
        What is answered to `RewardModel.score_all`.
    """

    def __init__(self, reward: Any, score_all: Scores) -> None:
        self.reward, self.score_all = reward, score_all

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reward, name)


def swapped(reward: Any, data: RunData) -> Placebo:
    """Everybody has the scores of another user, the next in an order that the run's seed draws."""
    order = numpy_rng(data.run_seed, "ragar swapped").permutation(np.array(data.user_ids, dtype=object))
    other = dict(zip(order, np.roll(order, -1), strict=True))
    return Placebo(reward, lambda users, items: reward.score_all([other[user] for user in users], items))


def shuffled(reward: Any, data: RunData) -> Placebo:
    """A user's scores are dealt to the items at random."""

    def score_all(users: Sequence[str], items: Sequence[str]) -> torch.Tensor:
        orders = [
            numpy_rng(data.run_seed, "ragar shuffled", user).permutation(len(items)).tolist()
            for user in users
        ]
        scores = reward.score_all(users, items)
        return torch.stack([row[order] for row, order in zip(scores, orders, strict=True)])

    return Placebo(reward, score_all)


def everybody(reward: Any, data: RunData) -> Placebo:
    """All users have the mean of all users' scores: what everybody likes."""

    def score_all(users: Sequence[str], items: Sequence[str]) -> torch.Tensor:
        return reward.score_all(data.user_ids, items).mean(0).expand(len(users), -1)

    return Placebo(reward, score_all)


PLACEBOS = {"swapped": swapped, "shuffled": shuffled, "everybody": everybody}
