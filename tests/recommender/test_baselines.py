"""Ranking without a model, against every order of the candidates written out."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest

from recgen.recommender.baselines import baselines, expected_metrics


def over_all_orders(scores: list[float], relevant: list[bool], k: int) -> tuple[float, float]:
    """Recall and NDCG by their definition, averaged over every order that the scores allow."""
    found, wanted = [], sum(relevant)
    ideal = sum(1 / np.log2(place + 2) for place in range(min(k, wanted)))
    for order in permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in pairwise(order)):
            gains = [1 / np.log2(place + 2) for place, item in enumerate(order[:k]) if relevant[item]]
            found.append((len(gains) / wanted, sum(gains) / ideal))
    return tuple(np.mean(found, axis=0))


@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_the_expectation_over_ties_is_exact(k):
    scores, relevant = [3.0, 1.0, 1.0, 5.0, 1.0, 0.0], [False, True, True, False, False, True]
    found = expected_metrics(np.array(scores), np.array(relevant), k)
    assert found == pytest.approx(over_all_orders(scores, relevant, k), abs=1e-12)
    alone = expected_metrics(np.array([2.0, 1.0, 0.0]), np.array([True, False, False]), k)
    assert alone == (1.0, 1.0)


def test_candidates_are_all_items_but_what_a_user_has_met(splits):
    """User a: items 3, 4, 5 of popularity 1, 1, 2; b: 2 (test, and in training), 3, 4, 5 of 1, 1, 1, 2; c: 1, 2, 3."""
    train = [
        ("a", "i1", 1.0),
        ("b", "i2", 1.0),
        ("c", "i4", 1.0),
        ("c", "i5", 1.0),
        ("d", "i5", 1.0),
        ("d", "i3", 1.0),
    ]
    parts = splits(
        train,
        valid=[("a", "i2", 1.0), ("b", "i1", 1.0)],
        test=[("a", "i4", 1.0), ("b", "i2", 1.0), ("c", "i3", 1.0)],
    )
    found = baselines(parts, k=2)
    users = (
        ([1.0, 1.0, 2.0], [False, True, False]),
        ([1.0, 1.0, 1.0, 2.0], [True, False, False, False]),
        ([1.0, 1.0, 1.0], [False, False, True]),
    )
    for name, given in (("popularity", 1.0), ("chance", 0.0)):
        rows = [over_all_orders([given * score for score in scores], wanted, 2) for scores, wanted in users]
        recall, gain = np.mean(rows, axis=0)
        assert found[name] == pytest.approx({"recall@2": recall, "ndcg@2": gain}, abs=1e-12)
    assert set(baselines(parts)["chance"]) == {"recall@10", "ndcg@10"}
