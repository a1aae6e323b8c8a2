"""Pools of items: exact answers, large pools against the exact ones, ties, and rows that are not in the pool."""

from __future__ import annotations

import numpy as np
import pytest

from recgen.features.retrieval import ItemPool


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """Rows in clusters, of all lengths."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 24))[rng.integers(60, size=3000)] + 0.4 * rng.normal(size=(3000, 24))
    return (rows * rng.uniform(0.1, 9, (3000, 1))).astype(np.float32)


def by_hand(features: np.ndarray, query: np.ndarray, k: int) -> list[int]:
    cosine = features @ query / (np.linalg.norm(features, axis=1) * np.linalg.norm(query))
    return np.argsort(-cosine)[:k].tolist()


def test_the_nearest_by_cosine_whatever_the_lengths(features) -> None:
    pool = ItemPool(features)
    for row in (3, 77, 2999):
        assert pool.nearest(features[row] * 100, 7).tolist() == by_hand(features, features[row], 7)


def test_a_large_pool_finds_nearly_what_an_exact_one_finds(features) -> None:
    exact, large = ItemPool(features), ItemPool(features, exact_up_to=1000, probes=24)
    queries = features[::50] + 0.01
    found = [len(set(exact.nearest(q, 10)) & set(large.nearest(q, 10))) / 10 for q in queries]
    assert np.mean(found) > 0.97
    assert all(large.nearest(features[row], 1)[0] == row for row in range(0, 3000, 100))


def test_items_without_an_embedding_are_not_in_the_pool(features) -> None:
    holes = features[:50].copy()
    holes[[0, 7, 8]] = np.nan
    pool = ItemPool(holes)
    assert len(pool) == 47 and pool.nearest(features[7], 50).tolist() == [
        row for row in by_hand(features[:50], features[7], 50) if row not in (0, 7, 8)
    ]


def test_ties_go_to_the_lower_row(features) -> None:
    pool = ItemPool(np.concatenate([features[:20], 2 * features[5:8], features[5:8]]))
    assert pool.nearest(features[6], 3).tolist() == [6, 21, 24]
