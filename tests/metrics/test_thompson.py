"""Thompson sampling against what is known of Beta posteriors, and in markets with and without a better arm."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from recgen.metrics.thompson import STRENGTH, ThompsonSampling, choose

ARMS = ["original", "group", "own"]


def learner(items: int = 2) -> ThompsonSampling:
    made = ThompsonSampling(items, ARMS)
    rng = np.random.default_rng(0)
    rows, arms = rng.integers(items, size=3_000), rng.integers(3, size=3_000)
    made.update(rows, arms, rng.random(3_000) < np.array([0.2, 0.25, 0.3])[arms])
    return made


def test_the_posterior_is_counts_and_the_arms_rate_elsewhere():
    made = ThompsonSampling(2, ["a", "b"])
    made.update(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), np.array([True, True, True, False]))
    first, second = made.posterior()
    rate = (2 + 1) / (2 + 2), (1 + 1) / (2 + 2)
    assert first.tolist() == [
        [2 + STRENGTH * rate[0], 1 + STRENGTH * rate[1]],
        [STRENGTH * rate[0], STRENGTH * rate[1]],
    ]
    assert second[1, 1] == 1 + STRENGTH * (1 - rate[1]) and second[1, 0] == STRENGTH * (1 - rate[0])


def test_probabilities_are_those_of_being_the_best():
    made, rng = learner(), np.random.default_rng(1)
    found = np.mean([made.probabilities(np.array([0, 1]), rng) for _ in range(100)], axis=0)
    first, second = made.posterior()
    for item in (0, 1):
        drawn = beta.rvs(first[item], second[item], size=(20_000, 3), random_state=2)
        best = np.bincount(drawn.argmax(axis=1), minlength=3) / len(drawn)
        assert found[item] == pytest.approx(best, abs=0.02)


def test_an_arm_that_is_not_there_is_not_shown_and_every_other_may_be():
    made = learner()
    there = np.array([[True, False, True], [True, False, False]] * 3_000)
    found = made.probabilities(np.array([0, 1] * 3_000), np.random.default_rng(0), there)
    assert (found[~there] == 0).all() and (found[there] > 0).all() and found.sum(axis=1) == pytest.approx(1)
    assert (found[1::2, 0] == 1).all()
    shown = choose(found, np.random.default_rng(1).random(len(found)))
    assert there[np.arange(len(found)), shown].all()
    assert (shown[::2] == 2).mean() == pytest.approx(found[::2, 2].mean(), abs=0.02)


def played(rates: list[float], seed: int, items: int = 30, rounds: int = 20, seen: int = 400) -> np.ndarray:
    """Return how often each arm was shown in each round ``[rounds, arms]`` where arms are clicked at these rates."""
    rng, made, shown = np.random.default_rng(seed), ThompsonSampling(items, ARMS), []
    for _ in range(rounds):
        rows = rng.integers(items, size=seen)
        arms = choose(made.probabilities(rows, rng), rng.random(seen))
        made.update(rows, arms, rng.random(seen) < np.array(rates)[arms])
        shown.append(np.bincount(arms, minlength=3) / seen)
    return np.array(shown)


def test_the_better_arm_is_found_and_nothing_where_none_is_better():
    found = played([0.2, 0.25, 0.4], seed=0)
    assert found[0].max() < 0.5 and found[-5:, 2].mean() > 0.75
    alike = np.mean([played([0.3, 0.3, 0.3], seed)[-5:].mean(axis=0) for seed in range(10)], axis=0)
    assert alike == pytest.approx([1 / 3] * 3, abs=0.15)
