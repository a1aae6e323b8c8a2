"""Click models against hand-worked pages, and draws against the probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from recgen.data.simulation.click_models import Cascade, PositionBased

ATTRACTION = np.array([[0.5, 0.8, 0.2], [0.1, 0.0, 1.0]])


def test_position_based_looks_at_place_k_with_one_over_k_to_the_severity():
    assert np.allclose(PositionBased(1.0).expected(ATTRACTION), [[0.5, 0.4, 0.2 / 3], [0.1, 0.0, 1 / 3]])
    assert np.allclose(PositionBased(0.0).expected(ATTRACTION), ATTRACTION)
    assert np.allclose(PositionBased(2.0).expected(ATTRACTION)[0], [0.5, 0.2, 0.2 / 9])


def test_cascade_clicks_the_first_that_attracts_and_leaves():
    assert np.allclose(Cascade().expected(ATTRACTION), [[0.5, 0.4, 0.02], [0.1, 0.0, 0.9]])
    drawn = Cascade().draw(
        ATTRACTION[:1].repeat(3, axis=0), np.array([[0.4, 0.1, 0.1], [0.6, 0.7, 0.1], [0.9, 0.9, 0.9]])
    )
    assert drawn.tolist() == [[True, False, False], [False, True, False], [False, False, False]]


@pytest.mark.parametrize("model", [PositionBased(1.0), Cascade()])
def test_draws_come_as_often_as_expected(model):
    uniform = np.random.default_rng(0).random((40_000, 3))
    for row in ATTRACTION:
        shown = np.tile(row, (len(uniform), 1))
        assert np.allclose(model.draw(shown, uniform).mean(axis=0), model.expected(row[None])[0], atol=0.01)
