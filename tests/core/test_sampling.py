"""Draws without replacement for many owners at once."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recgen.core.sampling import sample_excluding

RNG = np.random.default_rng(0)


def seeds(count: int) -> np.ndarray:
    return RNG.integers(0, 2**63, count).astype(np.uint64)


def drawn(of: np.ndarray, wanted: int, population: int, excluded: np.ndarray) -> list[list[int]]:
    owner, member = sample_excluding(of, np.full(len(of), wanted), population, excluded)
    return [member[owner == each].tolist() for each in range(len(of))]


def test_each_owner_gets_distinct_members_that_it_does_not_exclude():
    excluded = RNG.integers(0, 200 * 50, 4000)
    owner, member = sample_excluding(seeds(200), np.full(200, 10), 50, excluded)
    codes = owner * 50 + member
    assert len(np.unique(codes)) == len(codes) and not np.isin(codes, excluded).any()
    assert np.bincount(owner).tolist() == [10] * 200
    assert (np.diff(owner) >= 0).all()


@pytest.mark.parametrize("left", [0, 1, 3])
def test_an_owner_that_excludes_nearly_all_gets_what_is_left(left):
    excluded = np.delete(np.arange(1000), np.arange(0, 3 * left, 3))
    assert sorted(drawn(seeds(1), 5, 1000, excluded)[0]) == list(range(0, 3 * left, 3))


def test_members_are_drawn_uniformly_among_those_not_excluded():
    owner, member = sample_excluding(seeds(20_000), np.full(20_000, 3), 12, np.arange(20_000) * 12 + 4)
    counts = np.bincount(member, minlength=12)
    assert counts[4] == 0
    assert stats.chisquare(np.delete(counts, 4)).pvalue > 0.001
    first = np.bincount(member[::3], minlength=12)  # the order of an owner's draws is random too
    assert stats.chisquare(np.delete(first, 4)).pvalue > 0.001


def test_other_owners_and_a_larger_number_change_nothing():
    of, excluded = seeds(30), RNG.integers(0, 30 * 40, 300)
    few, many = drawn(of, 4, 40, excluded), drawn(of, 12, 40, excluded)
    assert [mine[:4] for mine in many] == few
    alone = drawn(of[7:8], 4, 40, excluded[excluded // 40 == 7] - 7 * 40)
    assert alone[0] == few[7]
    assert len({tuple(mine) for mine in few}) > 25
