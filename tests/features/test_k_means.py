"""Clusters of points whose groups are plain to see."""

from __future__ import annotations

import numpy as np

from recgen.features.k_means import k_means


def test_groups_far_apart_are_found_and_repeat():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10]], dtype=np.float32)
    points = np.repeat(centres, 20, axis=0) + rng.normal(scale=0.1, size=(60, 2)).astype(np.float32)
    found, members = k_means(points, 3, seed=2**40 + 7)
    for group in range(3):
        assert len(set(members[20 * group : 20 * group + 20])) == 1
        assert np.abs(found[members[20 * group]] - centres[group]).max() < 0.2
    assert np.array_equal(members, k_means(points, 3, seed=2**40 + 7)[1])


def test_no_more_clusters_than_points_and_none_empty():
    points = np.array([[0.0], [0.0], [5.0]])
    centres, members = k_means(points, 8, seed=1)
    assert len(centres) == members.max() + 1 <= 3 and members[0] == members[1] != members[2]
