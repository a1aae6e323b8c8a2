"""What bootstraps and sign-flip tests draw: the same for one seed and one number of users, whichever metric asks."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
SIGN_FLIPS = 10_000
MORE_SIGN_FLIPS = 100_000  # where none of the first was as extreme: Holm's correction multiplies p by hundreds of comparisons
_ROWS_AT_ONCE = 500
_KEPT_USERS, _KEPT_SEEDS = 256, 32
"""Of at most so many users, what the latest seeds have drawn is kept, up to 7 MB each: a metric has one seed for all generators,
and drawing takes longer than all that is calculated from it."""


def drawn_users(seed: int, users: int) -> Iterable[NDArray[np.int64]]:
    """Yield `RESAMPLES` samples of users with replacement, rows of their numbers, block by block."""
    return _kept_users(seed, users) if users <= _KEPT_USERS else _draw_users(seed, users)


def _draw_users(seed: int, users: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    for start in range(0, RESAMPLES, _ROWS_AT_ONCE):
        yield rng.integers(0, users, size=(min(_ROWS_AT_ONCE, RESAMPLES - start), users))


def drawn_flips(seed: int, users: int) -> Iterator[NDArray[np.int8]]:
    """Yield `MORE_SIGN_FLIPS` patterns, rows of 1 where a user's sign is changed and 0 elsewhere, block by block."""
    if users > _KEPT_USERS:
        yield from _draw_flips(np.random.default_rng(seed), MORE_SIGN_FLIPS, users)
        return
    kept, rng = _kept_flips(seed, users)
    yield from kept
    yield from _draw_flips(copy.deepcopy(rng), MORE_SIGN_FLIPS - SIGN_FLIPS, users)


def _draw_flips(rng: np.random.Generator, wanted: int, users: int) -> Iterator[NDArray[np.int8]]:
    for start in range(0, wanted, _ROWS_AT_ONCE):
        yield rng.integers(0, 2, size=(min(_ROWS_AT_ONCE, wanted - start), users), dtype=np.int8)


@lru_cache(maxsize=_KEPT_SEEDS)
def _kept_users(seed: int, users: int) -> tuple[NDArray[np.int64], ...]:
    return tuple(_draw_users(seed, users))


@lru_cache(maxsize=_KEPT_SEEDS)
def _kept_flips(seed: int, users: int) -> tuple[tuple[NDArray[np.int8], ...], np.random.Generator]:
    """Return the first `SIGN_FLIPS` patterns, and the generator that draws those after them."""
    rng = np.random.default_rng(seed)
    return tuple(_draw_flips(rng, SIGN_FLIPS, users)), rng
