"""Draws without replacement for many owners at once, as column operations: users' unseen items, items' users."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]

_INCREMENT = np.uint64(0x9E3779B97F4A7C15)  # of splitmix64: Steele, Lea and Flood 2014


def sample_excluding(seeds: UInt64, wanted: Int64, population: int, excluded: Int64) -> tuple[Int64, Int64]:
    """Draw members of a population for each owner, uniformly, each at most once and none of those it excludes.

    An owner's draws follow from its seed, what it excludes and the population's size alone: other owners change nothing, and
    a larger number asked for begins with the same draws. Rejection sampling: time and memory are linear in what is drawn and
    excluded, unless an owner wants nearly all of the population.

    Parameters
    ----------
    seeds
        uint64 ``[owners]``, for example of `recgen.core.seeding.seed_for`.
    wanted
        int64 ``[owners]``; an owner gets fewer where its exclusions leave fewer.
    population
        How many members there are; they are numbered from 0.
    excluded
        int64 ``[e]``, the pairs that must not be drawn as ``owner * population + member``, in any order, repeated or not.

    Returns
    -------
    The owner and the member of each draw, int64 ``[n]`` each, by owner and in the order drawn.

    Examples
    --------
    >>> owner, member = sample_excluding(np.array([5, 6], np.uint64), np.array([2, 9]), 3, np.array([1, 3]))
    >>> owner.tolist(), sorted(member[:2].tolist()), sorted(member[2:].tolist())
    ([0, 0, 1, 1], [0, 2], [1, 2])
    """
    taken = np.unique(excluded)
    free = population - np.bincount(taken // population, minlength=len(seeds))
    left = np.minimum(wanted, free)
    begun, drawn, turn = np.zeros(len(seeds), dtype=np.int64), [], 0
    while (open_ := np.flatnonzero(left > 0)).size:
        tries = left[open_] << min(turn, 10)  # the fewer are left to find, the more tries a round
        owner, place = np.repeat(open_, tries), _within(tries)
        found = _members(seeds[owner], begun[owner] + place, population)
        begun[open_] += tries
        kept = _first_new(owner * population + found, taken)
        kept = kept[_within(np.bincount(owner[kept], minlength=len(seeds))) < left[owner[kept]]]
        codes = owner[kept] * population + found[kept]
        left -= np.bincount(owner[kept], minlength=len(seeds))
        taken = np.union1d(taken, codes)
        drawn.append(codes)
        turn += 1
    codes = np.concatenate([np.empty(0, dtype=np.int64), *drawn])
    codes = codes[np.argsort(codes // population, kind="stable")]
    return codes // population, codes % population


def random_places(seeds: UInt64, owners: Int64, members: UInt64) -> Int64:
    """Return the place of each row among its owner's in an order that the seeds give, from 0: int64 ``[n]``.

    Parameters
    ----------
    seeds
        uint64 ``[owners]``.
    owners
        int64 ``[n]``, the owner of each row.
    members
        uint64 ``[n]``, the seed of what each row is: with the owner's it decides the order, whatever other rows there are.
        Equal ones stay in order.

    Examples
    --------
    >>> random_places(np.array([5, 6], np.uint64), np.array([0, 1, 0]), np.array([7, 7, 8], np.uint64)).tolist()
    [0, 0, 1]
    """
    keys = _mixed(seeds[owners] + _mixed(members))
    order = np.lexsort((keys, owners))
    places = np.empty(len(owners), dtype=np.int64)
    places[order] = _within(np.bincount(owners, minlength=len(seeds)))
    return places


def _within(counts: Int64) -> Int64:
    """Number the elements of consecutive groups of these sizes from 0 in each: sizes 2 and 3 give 0, 1, 0, 1, 2."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _members(seeds: UInt64, turns: Int64, population: int) -> Int64:
    """Return each owner's `turns`-th member: the splitmix64 stream of its seed, modulo the population."""
    state = seeds + (turns.astype(np.uint64) + np.uint64(1)) * _INCREMENT  # wraps, as the generator's does
    return (_mixed(state) % np.uint64(population)).astype(np.int64)


def _mixed(state: UInt64) -> UInt64:
    """Return the output of splitmix64 for a state."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _first_new(codes: Int64, taken: Int64) -> Int64:
    """Return the positions, ascending, of the first of each code that is not in the sorted `taken`."""
    values, first = np.unique(codes, return_index=True)
    at = np.searchsorted(taken, values)
    if not len(taken):
        return np.sort(first)
    known = taken[np.minimum(at, len(taken) - 1)] == values
    return np.sort(first[~known])
