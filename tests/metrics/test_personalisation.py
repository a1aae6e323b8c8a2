"""Rank change and similarity to the user's taste, against hand-worked cases and plain loops."""

import numpy as np
import pytest

from recgen.core.compat import prepare_torchvision
from recgen.metrics import personalisation as p

prepare_torchvision()  # torchmetrics imports torchvision


def test_delta_r_by_hand():
    # a rise from the 10th place (rank 9) to the 5th, no change, and a fall from the first place to the 51st
    assert p.delta_r([9, 7, 0], [4, 7, 50]).tolist() == [0.5, 0.0, -50.0]


def test_delta_r_stays_below_one_and_says_when_a_rank_is_impossible():
    assert p.delta_r([10**6], [0])[0] < 1
    with pytest.raises(ValueError, match="0-based"):
        p.delta_r([-1], [3])


def test_gap_is_reward_minus_judge():
    assert p.over_optimisation_gap([0.75, 0.0], [0.25, 0.5]).tolist() == [0.5, -0.5]


def test_cps_equals_a_plain_loop_and_ignores_length():
    rng = np.random.default_rng(0)
    images, words = rng.normal(size=(20, 8)), rng.normal(size=(20, 8))
    by_hand = [100 * max(0.0, i @ w / np.sqrt((i @ i) * (w @ w))) for i, w in zip(images, words, strict=True)]
    assert np.allclose(p.cps(images, words), by_hand, atol=1e-10)
    assert np.allclose(p.cps(3 * images.astype(np.float32), 0.2 * words), by_hand, atol=1e-4)
    assert min(by_hand) == 0.0  # the case cut off at zero is among them


def test_cps_is_100_times_torchmetrics_cosine():
    torch = pytest.importorskip("torch")
    from torchmetrics.functional import pairwise_cosine_similarity

    rng = np.random.default_rng(1)
    images, words = rng.normal(size=(2, 9, 5))
    expected = pairwise_cosine_similarity(torch.tensor(images), torch.tensor(words)).diagonal().clamp(min=0)
    assert np.allclose(p.cps(images, words), 100 * expected.numpy())


def test_cpis_averages_over_each_history_and_skips_what_has_no_image():
    images = np.array([[1.0, 0.0], [0.0, 2.0], [np.nan, np.nan], [-1.0, 0.0]])
    creatives = np.array([[5.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    values = p.cpis(creatives, images, [[0, 1, 2], [0, 3, 1], [2], []])
    assert np.allclose(values[:2], [50.0, 100 * np.sqrt(0.5) / 3])
    assert np.isnan(values[2:]).all()


def test_a_missing_embedding_is_missing_in_the_result():
    assert np.isnan(p.cosine(np.array([[np.nan, 1.0], [0.0, 0.0]]), np.ones((2, 2)))).all()
    with pytest.raises(ValueError, match="one shape"):
        p.cosine(np.ones((2, 3)), np.ones((2, 4)))


def test_no_creatives_at_all():
    assert p.cpis(np.ones((0, 4)), np.ones((3, 4)), []).shape == (0,)


def test_true_utility_gain():
    assert p.true_utility_gain([1.0, -0.5], [0.5, 0.5]).tolist() == [-0.5, 1.0]


def test_the_smallest_catalogues_and_histories():
    with pytest.raises(ValueError, match="0-based"):
        p.delta_r([3], [-1])
    assert p.percentile_gain([0], [0], 1).tolist() == [0.0] and p.percentile_gain([1], [0], 2).tolist() == [
        1.0
    ]
    with np.errstate(all="raise"):  # what is not known is not divided by
        assert p.history_mean([5.0], np.array([0]), 2).tolist() == pytest.approx([5.0, np.nan], nan_ok=True)
        assert np.isnan(p.cosine(np.zeros((1, 2)), np.ones((1, 2)))).all()
