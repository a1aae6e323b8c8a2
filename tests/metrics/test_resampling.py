"""Samples and sign patterns are those of numpy's generator of the seed, whoever asked before and however many units there are."""

from __future__ import annotations

import numpy as np
import pytest

from recgen.metrics.resampling import MORE_SIGN_FLIPS, RESAMPLES, SIGN_FLIPS, drawn_flips, drawn_users

FEW, MANY = 20, 300
"""Numbers of users for which what is drawn is kept, and is not."""


@pytest.mark.parametrize("users", [FEW, MANY])
def test_samples_of_users_are_those_of_the_seed(users):
    rng = np.random.default_rng(5)
    expected = np.concatenate([rng.integers(0, users, size=(500, users)) for _ in range(RESAMPLES // 500)])
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate(list(drawn_users(5, users))), expected)
    other = next(iter(drawn_users(6, users)))
    assert (other != expected[: len(other)]).any() and other.max() == users - 1


@pytest.mark.parametrize("users", [FEW, MANY])
def test_sign_patterns_are_those_of_the_seed(users):
    rng = np.random.default_rng(5)
    blocks = [rng.integers(0, 2, size=(500, users), dtype=np.int8) for _ in range(MORE_SIGN_FLIPS // 500)]
    first = SIGN_FLIPS // 500
    for wanted in (first, len(blocks), first + 1):  # as far as a test goes, which need not be to the end
        for expected, found in zip(blocks[:wanted], drawn_flips(5, users), strict=False):
            np.testing.assert_array_equal(found, expected)
    assert sum(1 for _ in drawn_flips(5, users)) == len(blocks)


def test_another_number_of_users_has_samples_of_its_own():
    assert [next(iter(drawn_users(5, users))).shape[1] for users in (FEW, FEW + 1)] == [FEW, FEW + 1]
    assert [next(drawn_flips(5, users)).shape[1] for users in (FEW, FEW + 1)] == [FEW, FEW + 1]
