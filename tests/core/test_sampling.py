"""Draws without replacement for many owners at once."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recgen.core.sampling import _members, random_places, sample_excluding

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


def test_the_stream_is_splitmix64():
    """The first numbers of seed 1234567, as every implementation gives them."""
    stream = [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
    ]  # fmt: skip
    of = np.full(5, 1234567, dtype=np.uint64)
    for population in (10**9 + 7, 2**62 + 11):
        assert _members(of, np.arange(5), population).tolist() == [number % population for number in stream]


def test_draws_follow_the_stream_and_skip_what_is_excluded_or_drawn():
    """Two owners, seven members: each takes the stream's members in turn but for what it excludes or has."""
    of, excluded = np.array([3, 4], dtype=np.uint64), np.array([2, 7 + 5, 7 + 0, 7 + 5])
    for owner, (mine, wanted) in enumerate([({2}, 4), ({0, 5}, 5)]):
        expected: list[int] = []
        for member in _members(of[[owner] * 200], np.arange(200), 7).tolist():
            if member not in mine and member not in expected:
                expected.append(member)
        found = sample_excluding(of, np.array([4, 5]), 7, excluded)
        assert found[1][found[0] == owner].tolist() == expected[:wanted]
    nobody = sample_excluding(of[:0], np.zeros(0, dtype=np.int64), 7, np.zeros(0, dtype=np.int64))
    assert len(nobody[0]) == len(nobody[1]) == 0
    free = sample_excluding(of, np.array([0, 9]), 7, np.zeros(0, dtype=np.int64))
    assert free[0].tolist() == [1] * 7 and sorted(free[1].tolist()) == list(range(7))


def test_places_follow_the_seeds_of_owner_and_member():
    """The order is that of splitmix64's output for the owner's seed plus the member's output."""
    of, owners = seeds(2), np.array([0, 1, 0, 0, 1, 0])
    members = seeds(6)

    def mixed(state: int) -> int:
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
        return state ^ state >> 31

    pairs = zip(of[owners].tolist(), members.tolist(), strict=True)
    keys = [mixed((owner + mixed(member)) % 2**64) for owner, member in pairs]
    expected = [sum(keys[b] < keys[a] for b in range(6) if owners[b] == owners[a]) for a in range(6)]
    assert random_places(of, owners, members).tolist() == expected
