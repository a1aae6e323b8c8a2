"""Item features with creatives in them."""

from __future__ import annotations

import numpy as np

from recgen.recommender import mixing

FEATURES = np.array([[1, 0], [0, 1], [np.nan, np.nan], [4, 4]], dtype=np.float32)


def test_an_item_gets_its_creatives_mean_and_one_without_an_image_that_alone():
    means = mixing.item_means([3, 2, 3], np.array([[0, 2], [6, 6], [2, 0]], dtype=np.float32))
    assert list(means) == [3, 2] and means[3].tolist() == [1, 1]
    mixed = mixing.mix(FEATURES, means, 0.25)
    assert mixed[:2].tolist() == [[1, 0], [0, 1]]
    assert mixed[3].tolist() == [3.25, 3.25] and mixed[2].tolist() == [6, 6]
    assert np.isnan(FEATURES[2]).all()  # what was given stays as it was


def test_every_item_is_dealt_another_items_creatives():
    means = {row: np.full(2, row, dtype=np.float32) for row in range(9)}
    dealt = mixing.dealt(means, 1, 0)
    givers = [int(dealt[row][0]) for row in range(9)]
    assert sorted(givers) == list(range(9)) and all(giver != row for row, giver in enumerate(givers))
    assert givers != [int(mixing.dealt(means, 1, 1)[row][0]) for row in range(9)]


def test_random_images_are_of_other_items_that_have_one():
    drawn = [mixing.random_items(FEATURES, [(0, 1)], 1, turn)[0].tolist() for turn in range(40)]
    assert {tuple(each) for each in drawn} == {(0, 1), (4, 4)}
    assert mixing.random_items(FEATURES[:1], [(0, 2)], 1, 0) == {}
