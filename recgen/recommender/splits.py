"""Splitting interactions between the reward and the judge, so that neither has seen what the other learned from."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from recgen.core.seeding import numpy_rng
from recgen.recommender.recbole import DatasetSplits


def split_by_user(seed: int, whole: Any, rows: Any, kinds: np.ndarray | None = None) -> np.ndarray:
    """Split each user's interactions into two random halves, equal in size or one apart.

    Parameters
    ----------
    seed
        The run's seed; together with the user's token it decides which interaction falls into which half.
    whole
        The RecBole dataset whose ids `rows` uses.
    rows
        RecBole's Interaction of n rows.
    kinds
        int ``[n]``; a user's interactions of each kind are split separately, so that the halves are alike in kind too.

    Returns
    -------
    numpy.ndarray
        bool ``[n]``, True in the first half.
    """
    users = rows[whole.uid_field].numpy()
    kinds = np.zeros(len(users), dtype=int) if kinds is None else kinds
    side = np.empty(len(users), dtype=bool)
    order = np.lexsort((kinds, users))
    changes = (np.diff(users[order]) != 0) | (np.diff(kinds[order]) != 0)
    for mine in np.split(order, np.flatnonzero(changes) + 1):
        token, kind = str(whole.id2token(whole.uid_field, users[mine[0]])), int(kinds[mine[0]])
        rng = numpy_rng(seed, "halves", token, f"kind {kind}" if kind else "")
        side[mine] = rng.permutation((np.arange(len(mine)) + rng.integers(2)) % 2 == 0)
    return side


def half(
    seed: int, parts: DatasetSplits, role: Literal["reward", "judge"], label: str | None = None
) -> np.ndarray:
    """Return which training interactions the reward or the judge may see: bool ``[n_train]``.

    Every interaction goes to exactly one of the two, and a user with at least two is known to both.

    Parameters
    ----------
    seed
        The run's seed.
    parts
        The split data.
    role
        Which of the two halves.
    label
        The field of likes (1) and dislikes (0), each of which is then split separately; None where all are likes.
    """
    if (seed, label) not in parts.sides:  # every loading of a trained model asks again
        rows = parts.train.inter_feat
        kinds = None if label is None else rows[label].numpy().astype(int)
        parts.sides[seed, label] = split_by_user(seed, parts.whole, rows, kinds)
    side = parts.sides[seed, label]
    return side if role == "reward" else ~side
