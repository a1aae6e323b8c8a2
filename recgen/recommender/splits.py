"""Dealing interactions out to the reward and the judge, so that neither has seen what the other learned from."""

from __future__ import annotations

from typing import Any

import numpy as np

from recgen.core.seeding import numpy_rng


def split_by_user(seed: int, whole: Any, rows: Any, kinds: np.ndarray | None = None) -> np.ndarray:
    """Deal interactions out to two sides, bool ``[n]``, at random: each user's in halves, one more or less.

    Parameters
    ----------
    seed
        The run's seed; with the user's token it decides who gets what.
    whole
        The RecBole dataset whose ids `rows` has.
    rows
        RecBole's Interaction of n rows.
    kinds
        int ``[n]``; each user's interactions of each kind are dealt out apart, so that the sides are alike in kind too.
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
