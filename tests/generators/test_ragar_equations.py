"""RAGAR's equations worked out by hand; nothing but numpy and torch, so that mutation testing can run them by the thousand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from generators.common.ridge import best_strength
from generators.ragar.calibrator import Calibrator, Scale, Whitening
from generators.ragar.content import NetOfContent
from generators.ragar.reflection import advantages, rank_loss, rewards, squared_distance, total_loss
from generators.ragar.retrieval import retrieve, retrieve_preferred, standardise
from generators.ragar.settings import Settings


def test_retrieval_known_answer() -> None:
    semantics = np.array([[1, 0], [3, 4], [0, 2], [-1, 0], [5, 0]], np.float32)  # item 4 is the reference
    visuals = np.array([[1, 1], [2, 0], [0, 4], [9, 9], [7, 7]], np.float32)
    found = retrieve([0, 1, 2, 3], 4, semantics, visuals, k=2)
    assert found.rows == [0, 1]  # cosines 1, 0.6, 0, -1
    np.testing.assert_allclose(found.weights, [1 / 1.6, 0.6 / 1.6])
    np.testing.assert_allclose(found.preference, [(1 + 0.6 * 2) / 1.6, 1 / 1.6], rtol=1e-6)


def test_retrieval_without_k_weighs_the_history_alike_and_leaves_out_what_has_no_image() -> None:
    semantics = np.array([[1, 0], [np.nan, np.nan], [0, 1], [1, 1]], np.float32)
    visuals = np.array([[1, 1], [np.nan, np.nan], [3, 5], [8, 8]], np.float32)
    found = retrieve([0, 1, 2], 3, semantics, visuals, k=0)
    assert found.rows == [0, 2]
    np.testing.assert_allclose(found.preference, [2, 3])
    nothing = retrieve([1], 3, semantics, visuals, k=5)
    assert nothing.preference is None and nothing.rows == [] and len(nothing.weights) == 0
    no_caption = np.where(np.arange(4)[:, None] == 1, np.float32(np.nan), semantics)
    assert retrieve([0, 1], 3, no_caption, np.ones((4, 2), np.float32), k=0).rows == [0]
    assert retrieve([0, 1], 3, np.ones((4, 2), np.float32), visuals, k=0).rows == [0]


def test_similarity_is_a_cosine_whatever_the_length_and_0_for_nothing() -> None:
    semantics = np.array([[1, 0], [3, 9], [0, 0], [0.001, 0]], np.float32)  # item 3 is the reference
    found = retrieve([0, 1, 2], 3, semantics, np.eye(4, dtype=np.float32), k=3)
    cosines = np.array([1, 1 / 10**0.5, 0])
    assert found.rows == [0, 1, 2]
    np.testing.assert_allclose(found.weights, cosines / cosines.sum(), rtol=1e-6)
    little = retrieve([1, 2], 3, semantics, np.eye(4, dtype=np.float32), k=2)
    assert little.weights.tolist() == [1.0, 0.0], "the only one that is alike has all the weight"


def test_retrieval_prefers_the_later_of_two_alike_and_ignores_opposites() -> None:
    semantics = np.array([[1, 0], [1, 0], [-1, 0], [1, 0]], np.float32)
    visuals = np.eye(4, dtype=np.float32)
    assert retrieve([0, 2, 1], 3, semantics, visuals, k=1).rows == [1]
    found = retrieve([0, 1, 2], 3, semantics, visuals, k=3)
    assert found.rows == [1, 0, 2] and found.weights.tolist() == [0.5, 0.5, 0.0]


def test_preferred_items_known_answer() -> None:
    semantics = np.array([[1, 0], [3, 4], [0, 2], [-1, 0], [5, 0]], np.float32)  # item 4 is the reference
    visuals = np.array([[1, 1], [2, 0], [0, 4], [9, 9], [7, 7]], np.float32)
    scores = np.array([0.0, 0.0, 1.0, -1.0, 9.0])
    found = retrieve_preferred([0, 1, 2, 3, 4], scores, 4, semantics, visuals, k=2, tau=0.5, kappa=1.0)
    assert found.rows == [2, 0], "logits 1, 0.6, 2, -3; the reference itself is left out"
    first = np.exp(2) / (np.exp(2) + np.exp(1))
    np.testing.assert_allclose(found.weights, [first, 1 - first])
    np.testing.assert_allclose(found.preference, [1 - first, 4 * first + 1 - first], rtol=1e-6)
    similar = retrieve_preferred([0, 1, 2, 3], scores[:4], 4, semantics, visuals, k=1, tau=0.5, kappa=4.0)
    assert similar.rows == [0]
    tied = retrieve_preferred([2, 0, 1], np.zeros(3), 4, semantics, visuals, k=2, tau=1.0, kappa=0.0)
    assert tied.rows == [1, 0], "ties go to the later candidate"
    nothing = retrieve_preferred([4], scores[:1], 4, semantics, visuals, 2, 1.0, 1.0)
    assert nothing.preference is None and nothing.rows == [] and len(nothing.weights) == 0
    large = retrieve_preferred([0, 1], np.array([1e4, 1e4 + 1]), 4, semantics, visuals, 2, 1.0, 0.0)
    np.testing.assert_allclose(large.weights, np.array([np.e, 1]) / (np.e + 1), err_msg="no overflow")


def test_scores_are_in_each_users_own_deviations() -> None:
    found = standardise(np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [4.0, 4.0, 4.0]]))
    np.testing.assert_allclose(found[0], found[1])
    np.testing.assert_allclose(found[0], np.array([-1, 0, 1]) / np.sqrt(2 / 3))
    assert found[2].tolist() == [0.0, 0.0, 0.0]


def test_calibration_starts_at_the_retrieved_preference_and_knows_its_answer() -> None:
    directions = torch.tensor([[0.0, 0.0, 0.0, 2.0]])
    calibrator = Calibrator(1, directions)
    general, language = torch.tensor([[3.0], [5.0]]), torch.tensor([[1.0], [1.0]])
    retrieved = torch.tensor([[2.0, -4.0, 0.0, 6.0], [2.0, -4.0, 0.0, 6.0]])
    liked = torch.tensor([[1.0, 1.0, -1.0, 0.0]] * 2)
    calibrator.measure(general, language, retrieved)
    start = calibrator(general, language, retrieved)
    assert start.tolist() == [[0.0, 0.0, 0.0]] * 2
    assert torch.equal(calibrator.corrected(start[:, None], retrieved, liked)[:, 0], retrieved)
    with torch.no_grad():
        calibrator.balance.copy_(torch.tensor([0.5, 2.0, 1.0]) / 200)
        calibrator.correct.weight[2, 0] = 1 / 200  # the first component of P_gen, -1 and 1 over these two
    found = calibrator(general, language, retrieved)
    torch.testing.assert_close(found, torch.tensor([[0.5, 2.0, 0.0], [0.5, 2.0, 2.0]]))
    points = calibrator.corrected(found[:, None], retrieved, liked)[:, 0]
    torch.testing.assert_close(points[0], torch.tensor([2.0 + 1.0 + 2.0, -4.0 - 2.0 + 2.0, -2.0, 6.0 + 3.0]))
    torch.testing.assert_close(points[1] - points[0], torch.tensor([0.0, 0.0, 0.0, 4.0]))


def test_what_the_calibrator_learns_does_not_grow_with_any_width() -> None:
    for width in (1, 50):
        learned = Calibrator(width, torch.zeros(3, width))
        assert sum(each.numel() for each in learned.parameters()) == (2 + 3) * (1 + 3 * 8)
        assert "directions" not in learned.state_dict(), "they are the scale's, which is saved once"


def test_whitened_features_are_uncorrelated_and_of_unit_variance() -> None:
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
        [[3.0, 1.0, 0.0, 5.0], [0.0, 0.5, 2.0, 0.0], [0.0, 0.1, 0.0, 0.3]]
    )
    whitening = Whitening(4, 6)
    whitening.measure(rows + 7.0)
    found = whitening(rows + 7.0)
    torch.testing.assert_close(found.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        found.T @ found / 50, torch.diag(torch.tensor([1.0, 1, 1, 0, 0, 0])), atol=1e-4, rtol=0
    )


def test_squared_distance_known_answer() -> None:
    general, retrieved = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0], [3.0, 0.0]])
    assert squared_distance(general, retrieved, "sum").item() == pytest.approx((1 + 4 + 9) / 2)
    assert squared_distance(general, retrieved, "mean").item() == pytest.approx((1 + 4 + 9) / 4)
    wide = squared_distance(general.repeat(1, 512), retrieved.repeat(1, 512), "mean")
    assert wide.item() == pytest.approx((1 + 4 + 9) / 4), "the mean is the same at any width"


def test_scale_leaves_out_what_has_no_image_and_inverts() -> None:
    raw = np.array([[1.0, 10.0], [3.0, 30.0], [np.nan, np.nan]], np.float32)
    scale = Scale.of(raw, 1)
    points = scale.apply(torch.from_numpy(raw[:2]))
    torch.testing.assert_close(points, torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    torch.testing.assert_close(scale.invert(points), torch.from_numpy(raw[:2]))
    torch.testing.assert_close(
        scale.directions, torch.tensor([[1.0, 1.0]]), msg="as long as the spread along it, sign fixed"
    )


GENERATED, REFERENCE, KEYWORD = (
    torch.tensor([[2.0, 0.5], [-1.0, 0.0]]),
    torch.tensor([1.0, 0.0]),
    torch.tensor([0.0, -2.0]),
)


def test_rewards_known_answer() -> None:
    corrected = rewards(GENERATED, REFERENCE, KEYWORD, delta=0.1)
    torch.testing.assert_close(
        corrected, torch.tensor([[1.0 + 2.0, 0.0 + 0.5], [0.0 + 1.0, 0.0 + 2.0]]) + 0.1
    )
    printed = rewards(GENERATED, REFERENCE, KEYWORD, delta=0.1, sign="as_printed")
    torch.testing.assert_close(printed, torch.tensor([[0.0 + 0.0, 0.5 + 0.0], [1.0 + 0.0, 0.0 + 0.0]]) + 0.1)
    below = torch.tensor([[-3.0, -4.0]])
    clamped, whole = (
        rewards(below, torch.tensor([0.0]), torch.tensor([1.0]), 0.0, clamp=clamp) for clamp in (True, False)
    )
    assert clamped.tolist() == [[0.0, 0.0]] and whole.tolist() == [[-7.0, -9.0]]


def test_advantages_are_against_the_other_samples_and_of_unit_spread() -> None:
    values = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]])
    others = torch.tensor([[1.0 - 4.0, 2.0 - 3.5, 6.0 - 1.5], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(advantages(values), others / others.square().mean().sqrt())
    torch.testing.assert_close(advantages(values + 5), advantages(values), msg="delta cancels")
    assert not advantages(torch.ones(3, 2)).any()
    torch.testing.assert_close(advantages(torch.tensor([[2.0], [2.0]])), torch.ones(2, 1))


def test_rank_loss_and_its_gradient_known_answer() -> None:
    mean = torch.tensor([[0.0, 1.0]], requires_grad=True)
    actions = torch.tensor([[[1.0, 1.0], [0.0, -1.0]]])
    loss = rank_loss(mean, actions, torch.tensor([[2.0, -1.0]]), sigma=0.5)
    # log densities -1 / 0.5 and -4 / 0.5
    more = rank_loss(mean, actions.repeat(1, 3, 1), torch.tensor([[2.0, -1.0] * 3]), sigma=0.5)
    assert more.item() == pytest.approx(loss.item()), "the mean over samples"
    assert loss.item() == pytest.approx(-(-2.0 * 2.0 + 8.0) / 2)
    loss.backward()
    # minus the mean of advantage * (action - mean) / sigma^2
    torch.testing.assert_close(mean.grad, -torch.tensor([[2.0 * 4.0, -1.0 * -8.0]]) / 2)


def test_total_loss_known_answer() -> None:
    loss = squared_distance(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 3.0]]), "sum")
    assert loss.item() == 5.0
    weights = Settings(alpha=2.0, beta=3.0, gamma=0.5)
    assert total_loss(torch.tensor(4.0), torch.tensor(-2.0), loss, weights).item() == 8.0 - 6.0 + 2.5


def test_a_reference_without_a_caption_gets_the_latest_alike() -> None:
    semantics = np.array([[1, 0], [0, 1], [1, 1], [np.nan, np.nan]], np.float32)
    found = retrieve([0, 1, 2], 3, semantics, np.eye(4, dtype=np.float32), k=2)
    assert found.rows == [2, 1] and found.weights.tolist() == [0.5, 0.5]
    opposite = np.array([[-1, 0], [-2, 0], [1, 0]], np.float32)
    assert retrieve([0, 1], 2, opposite, np.eye(3, dtype=np.float32), k=2).weights.tolist() == [0.5, 0.5]


def test_advantages_do_not_depend_on_the_rewards_unit() -> None:
    values = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.5, 0.0]])
    torch.testing.assert_close(advantages(values / 1000), advantages(values))


def test_directions_of_fewer_images_than_dimensions() -> None:
    raw = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    scale = Scale.of(raw, 9)
    points = scale.apply(torch.from_numpy(raw))
    assert scale.directions.shape == (4, 7)
    torch.testing.assert_close(
        scale.directions.T @ scale.directions, points.T @ points / 4, atol=1e-5, rtol=0
    )
    assert (scale.directions.gather(1, scale.directions.abs().argmax(1, keepdim=True)) > 0)[:3].all()
    assert Scale.of(np.ones((3, 2), np.float32), 1).deviation.min() == np.float32(1e-6)


def test_whitening_leaves_out_components_that_are_noise() -> None:
    rows = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [1.0, 1e-5, 0.0], [-1.0, -1e-5, 0.0]])
    whitening = Whitening(3, 2)
    whitening.measure(rows)
    found = whitening(rows)
    torch.testing.assert_close(found[:, 0], torch.tensor([1.0, -1.0, 1.0, -1.0]))
    assert not found[:, 1].any()
    whitening.measure(1e-4 * rows)
    torch.testing.assert_close(whitening(1e-4 * rows), found, msg="in whatever unit")
    whitening.measure(torch.ones(3, 3))
    assert not whitening(torch.ones(1, 3)).any(), "features that are all alike say nothing"


def by_hand(texts: np.ndarray, scores: np.ndarray, strength: float) -> np.ndarray:
    """What a ridge regression leaves of scores, with an intercept and a penalty in units of the features."""
    x, y = texts - texts.mean(axis=0), scores - scores.mean()
    gram = x.T @ x
    return y - x @ np.linalg.solve(gram + strength * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ y)


def test_net_of_content_is_what_texts_do_not_explain() -> None:
    rng = np.random.default_rng(3)
    texts, style = rng.normal(1, 1, (40, 5)).astype(np.float32), rng.normal(size=40)
    users = (texts @ rng.normal(size=(5, 6))).T + rng.normal(size=(6, 40))
    scores = texts @ rng.normal(2, 1, 5) + style
    net = NetOfContent(texts, users, 0)
    strength = best_strength(texts, users - users.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(net.of(scores, -1), by_hand(texts, scores, strength), atol=1e-4)
    assert np.corrcoef(net.of(scores, -1), style)[0, 1] > 0.9 > 0.5 > np.corrcoef(scores, style)[0, 1]
    without = np.delete(np.arange(40), 7)
    found = net.of(scores, 7)
    assert found[7] == 0 and abs(found.mean()) < 1e-9
    np.testing.assert_allclose(net.of(scores + 50 * (np.arange(40) == 7), 7), found, atol=1e-3)
    gram = (texts - texts.mean(axis=0)).T @ (texts - texts.mean(axis=0))
    penalty = strength * np.trace(gram) / 5 * np.eye(5)
    x = (texts - texts.mean(axis=0))[without]
    coefficients = np.linalg.solve(x.T @ x + penalty, x.T @ (scores[without] - scores[without].mean()))
    expected = scores[without] - x @ coefficients
    np.testing.assert_allclose(found[without], expected - expected.mean(), atol=1e-3)
    assert NetOfContent(texts[:2], users[:, :2], 0).of(scores[:2], 0).tolist() == [0, 0], (
        "one item is its own mean"
    )


def test_a_text_that_says_nothing_is_as_good_as_the_mean_of_the_others() -> None:
    rng = np.random.default_rng(4)
    texts, users = rng.normal(3, 1, (30, 4)).astype(np.float32), rng.normal(size=(5, 30))
    texts[4], texts[9] = np.nan, 0
    told = texts.copy()
    told[[4, 9]] = np.delete(texts, [4, 9], axis=0).mean(axis=0)
    scores = rng.normal(size=30)
    np.testing.assert_allclose(
        NetOfContent(texts, users, 0).of(scores, 2), NetOfContent(told, users, 0).of(scores, 2), atol=1e-5
    )
    nothing = NetOfContent(np.full((30, 4), np.nan, np.float32), users, 0).of(scores, -1)
    np.testing.assert_allclose(nothing, scores - scores.mean(), atol=1e-6)
    assert np.isfinite(NetOfContent(texts, np.zeros((0, 30)), 0).of(scores, -1)).all()


def test_of_a_large_catalogue_a_sample_is_regressed_on(monkeypatch) -> None:
    monkeypatch.setattr("generators.ragar.content._REGRESSED", 50)
    rng = np.random.default_rng(5)
    texts, content = rng.normal(size=(400, 3)).astype(np.float32), rng.normal(size=3)
    users = rng.normal(size=(4, 3)) @ texts.T + 0.01 * rng.normal(size=(4, 400))
    net = NetOfContent(texts, users, 1)
    assert len(net.fitted) == 50 and (np.diff(net.fitted) > 0).all()
    assert net.fitted.tolist() == NetOfContent(texts, users, 1).fitted.tolist()
    assert net.fitted.tolist() != NetOfContent(texts, users, 2).fitted.tolist(), "drawn by the run's seed"
    style = 0.3 * rng.normal(size=400)
    for left_out in (-1, int(net.fitted[0]), int(np.delete(np.arange(400), net.fitted)[0])):
        found = net.of(texts @ content + style, left_out)
        assert len(found) == 400 and np.corrcoef(found, style)[0, 1] > 0.95
        if left_out >= 0:
            moved = texts @ content + style + 20 * (np.arange(400) == left_out)
            np.testing.assert_allclose(net.of(moved, left_out), found, atol=1e-3)
