"""Halves for reward and judge: as drawn by loops, alike in size and kind, each user's on its own."""

from __future__ import annotations

import numpy as np

from recgen.core.seeding import numpy_rng
from recgen.recommender.splits import half, split_by_user

ROWS = [
    ("a", "i1", 1.0),
    ("b", "i1", 0.0),
    ("a", "i2", 0.0),
    ("b", "i2", 1.0),
    ("a", "i3", 1.0),
    ("a", "i4", 1.0),
]
ROWS += [("b", "i3", 1.0), ("b", "i4", 1.0), ("b", "i5", 1.0), ("c", "i1", 1.0), ("a", "i5", 0.0)]


def by_loops(seed: int, rows, kinds) -> list[bool]:
    """Return the first half by the definition: a user's interactions of a kind, in order, dealt out in turn and shuffled."""
    side = [False] * len(rows)
    for user in sorted({row[0] for row in rows}):
        for kind in sorted(set(kinds)):
            mine = [n for n, row in enumerate(rows) if row[0] == user and kinds[n] == kind]
            rng = numpy_rng(seed, "halves", user, f"kind {kind}" if kind else "")
            start = rng.integers(2)
            dealt = rng.permutation([(start + n) % 2 == 0 for n in range(len(mine))])
            for n, first in zip(mine, dealt, strict=True):
                side[n] = bool(first)
    return side


def test_halves_are_those_of_the_definition(splits):
    parts = splits(ROWS)
    for seed in range(5):
        expected = by_loops(seed, ROWS, [0] * len(ROWS))
        assert half(seed, parts, "reward").tolist() == expected
        assert half(seed, parts, "judge").tolist() == [not first for first in expected]
        assert split_by_user(seed, parts.whole, parts.train.inter_feat).tolist() == expected


def test_likes_and_dislikes_are_halved_separately(splits):
    parts, likes = splits(ROWS), [int(row[2]) for row in ROWS]
    for seed in range(5):
        side = half(seed, parts, "reward", "label")
        assert side.tolist() == by_loops(seed, ROWS, likes)
        for user in "abc":
            for kind in (0, 1):
                mine = side[[n for n, row in enumerate(ROWS) if row[0] == user and row[2] == kind]]
                assert abs(int(mine.sum()) * 2 - len(mine)) <= 1
    kinds = np.array([0, 2, 1, 0, 2, 2, 1, 0, 0, 0, 1])
    found = split_by_user(3, parts.whole, parts.train.inter_feat, kinds)
    assert found.tolist() == by_loops(3, ROWS, kinds.tolist())
