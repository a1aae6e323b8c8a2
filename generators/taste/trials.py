"""Requests that a fit makes for itself: training likes to try strengths on, and pairs to learn corrections from."""

from __future__ import annotations

import numpy as np

from generators.taste.likes import Encounters, sample_of_users
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.types import Request, RunData


def training_likes(data: RunData, users: int) -> list[Request]:
    """Return requests for training likes with an image, one of each of some `users`, by the run's seed."""
    liked = {
        user: items[likes] for user, (items, likes) in Encounters.of(data).by_user().items() if likes.any()
    }
    requests = []
    for user in sample_of_users(list(liked), data, "taste trials", users):
        token = data.user_ids[user]
        item = data.item_ids[int(numpy_rng(data.run_seed, "taste trial", token).choice(liked[user]))]
        requests.append(Request(token, item, seed_for(data.run_seed, "taste trial", token, item)))
    return requests


def learned_pairs(data: RunData, rows: np.ndarray, count: int) -> list[Request]:
    """Return `count` pairs of a user with encounters and an item, drawn by the run's seed, each with a noise of its own.

    Parameters
    ----------
    data
        Whose users.
    rows
        int64 ``[n]``, the catalogue rows of the items that may be drawn.
    count
        How many; none where no user has an encounter.
    """
    users, rng = list(Encounters.of(data).by_user()), numpy_rng(data.run_seed, "taste corrections")
    if not users:
        return []
    drawn = [rng.choice(each, count) for each in (users, rows)]
    tokens = [(data.user_ids[user], data.item_ids[item]) for user, item in zip(*drawn, strict=True)]
    return [Request(*pair, seed_for(data.run_seed, "taste correction", *pair)) for pair in tokens]
