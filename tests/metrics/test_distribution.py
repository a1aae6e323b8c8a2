"""CMMD against the double sum of its definition; the Frechet distance against torchmetrics and by hand."""

import numpy as np
import pytest
import torch

from recgen.core.compat import prepare_torchvision
from recgen.metrics import distribution as d

prepare_torchvision()  # torchmetrics imports torchvision


def cmmd_by_definition(x, y, unbiased):
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y))

    def kernel(a, b):
        return np.exp(-np.square(a[:, None] - b[None]).sum(-1) / (2 * 10.0**2))

    def mean(matrix):
        n = len(matrix)
        return (matrix.sum() - np.trace(matrix)) / (n * (n - 1)) if unbiased else matrix.mean()

    return 1000 * (mean(kernel(x, x)) + mean(kernel(y, y)) - 2 * kernel(x, y).mean())


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    return rng.normal(size=(37, 16)), rng.normal(size=(23, 16)) + 0.4


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_cmmd_equals_its_definition_whatever_the_chunk(sets, estimator, monkeypatch):
    expected = cmmd_by_definition(*sets, unbiased=estimator == "unbiased")
    assert d.cmmd(*sets, estimator) == pytest.approx(expected, abs=1e-7)
    monkeypatch.setattr(d, "ROWS_AT_ONCE", 5)
    assert d.cmmd(*sets, estimator) == pytest.approx(expected, abs=1e-7)


def test_sets_compared_with_one_reference_are_compared_as_with_its_images(sets):
    reference, users = d.ReferenceSet(sets[0]), np.arange(23) // 2
    assert d.cmmd_by_user(reference, sets[1], users) == d.cmmd_by_user(sets[0], sets[1], users)
    assert d.cmmd_by_user(reference, sets[1] + 1, users) == d.cmmd_by_user(sets[0], sets[1] + 1, users)


def test_unbiased_cmmd_centres_on_zero_for_alike_sets_and_the_biased_does_not():
    rng = np.random.default_rng(1)
    draws = [(rng.normal(size=(20, 8)), rng.normal(size=(20, 8))) for _ in range(200)]
    unbiased, biased = (np.array([d.cmmd(x, y, e) for x, y in draws]) for e in ("unbiased", "biased"))
    assert abs(unbiased.mean()) < 3 * unbiased.std() / np.sqrt(len(draws))
    assert (unbiased < 0).any() and (biased > 0).all()


def test_cmmd_ignores_the_length_of_embeddings(sets):
    real, creatives = sets
    assert d.cmmd(7 * real, creatives) == pytest.approx(d.cmmd(real, creatives))


def test_cmmd_refuses_sets_it_cannot_compare(sets):
    with pytest.raises(ValueError, match="two images"):
        d.cmmd(sets[0], sets[1][:1])
    with pytest.raises(ValueError, match="without an image"):
        d.cmmd(sets[0], np.full((3, 16), np.nan))
    with pytest.raises(ValueError, match="without an image"):
        d.cmmd(sets[0], np.vstack([sets[1], np.zeros(16)]))


def test_nothing_is_more_alike_than_an_image_and_itself(sets):
    rows = d._normalised(sets[0])
    assert ((rows @ rows.T).diagonal() > 1).any(), "single precision says so"
    assert d._kernel(rows, rows).max() == 0


def test_jackknife_equals_leaving_each_user_out(sets):
    real, creatives = sets
    users = np.arange(23) // 3
    without = np.array([d.cmmd(real, creatives[users != user]) for user in range(8)])
    spread = np.sqrt(7 / 8 * np.square(without - without.mean()).sum())
    estimate = d.cmmd_by_user(real, creatives, users.astype(str))
    assert estimate.value == pytest.approx(d.cmmd(real, creatives)) and estimate.n == 23
    assert estimate.high - estimate.value == pytest.approx(
        2.364624 * spread, rel=1e-5
    )  # t at 97.5%, 7 degrees
    assert estimate.value - estimate.low == pytest.approx(estimate.high - estimate.value)


def test_jackknife_interval_covers_the_truth():
    rng = np.random.default_rng(2)
    real, shift = rng.normal(size=(400, 6)) + 1, np.array([0.5, 0, 0, 0, 0, 0])
    truth = d.cmmd(real, rng.normal(size=(3000, 6)) + 1 + shift)
    covered = 0
    for _ in range(50):
        # two creatives a user that share the user's taste: ignoring users would be too sure
        taste = np.repeat(rng.normal(size=(25, 6)), 2, axis=0)
        creatives = np.sqrt(0.5) * (taste + rng.normal(size=(50, 6))) + 1 + shift
        estimate = d.cmmd_by_user(real, creatives, np.repeat(np.arange(25), 2))
        covered += estimate.low <= truth <= estimate.high
    assert 42 <= covered <= 50


def test_no_interval_from_two_users(sets):
    estimate = d.cmmd_by_user(sets[0], sets[1], np.arange(23) % 2)
    assert (estimate.low, estimate.high) == (None, None) and estimate.value is not None


@pytest.mark.parametrize("n", [6, 500])  # fewer images than features, and more
def test_frechet_distance_equals_torchmetrics(n):
    from torchmetrics.image.fid import _compute_fid

    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, 12)) @ rng.normal(size=(12, 12)), rng.normal(size=(n + 1, 12)) + 0.5
    means = [torch.tensor(rows.mean(axis=0)) for rows in (x, y)]
    covariances = [torch.tensor(np.cov(rows, rowvar=False)) for rows in (x, y)]
    expected = float(_compute_fid(means[0], covariances[0], means[1], covariances[1]))
    assert d.frechet_distance(x, y) == pytest.approx(expected, rel=1e-4)


def test_frechet_distance_of_diagonal_gaussians_has_a_closed_form():
    rng = np.random.default_rng(3)
    base = rng.normal(size=(200, 3))
    base = np.linalg.qr(base - base.mean(axis=0))[0] * np.sqrt(199)  # covariance exactly the identity
    base -= base.mean(axis=0)
    scales, shift = np.array([2.0, 3.0, 0.5]), np.array([1.0, 0.0, -2.0])
    expected = np.square(shift).sum() + np.square(scales - 1).sum()
    assert d.frechet_distance(base, base * scales + shift) == pytest.approx(expected)
    assert d.frechet_distance(base, base) == pytest.approx(0.0, abs=1e-9)


def test_leaving_out_users_where_few_images_are_left(sets):
    real, creatives = sets
    alone = d._Kernel(real, creatives[:4], np.array([0, 1, 1, 1])).without_each_user()
    np.testing.assert_allclose(alone, [d.cmmd(real, creatives[1:4])], atol=1e-4)
    two = d._Kernel(real, creatives[:4], np.array([0, 0, 1, 1])).without_each_user()
    np.testing.assert_allclose(two, [d.cmmd(real, creatives[2:4]), d.cmmd(real, creatives[:2])], atol=1e-4)
    three = d.cmmd_by_user(real, creatives[:6], np.array([0, 0, 1, 1, 2, 2]), level=0.5)
    spread = [d.cmmd(real, creatives[:6][np.arange(6) // 2 != user]) for user in range(3)]
    margin = 0.8164966 * np.sqrt(2 / 3 * np.square(spread - np.mean(spread)).sum())  # t at 75%, 2 degrees
    assert three.high - three.value == pytest.approx(margin, rel=1e-4) and three.low < three.value


def test_two_images_are_enough_and_one_is_not(sets):
    real, creatives = sets
    assert d.cmmd(real[:2], creatives[:2]) == pytest.approx(
        cmmd_by_definition(real[:2], creatives[:2], True), abs=1e-3
    )
    for few in ((real[:1], creatives), (real, creatives[:1])):
        with pytest.raises(ValueError, match="two images"):
            d.cmmd(*few)
        with pytest.raises(ValueError, match="two images"):
            d.frechet_distance(*few)
    assert d.frechet_distance(np.array([[0.0], [2.0]]), np.array([[0.0], [2.0]])) == 0.0


def test_as_many_images_as_features_have_a_frechet_distance():
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(3, 3)), rng.normal(size=(4, 3))
    roots = np.linalg.eigvals(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False)).real.clip(min=0)
    traces = np.trace(np.cov(x, rowvar=False)) + np.trace(np.cov(y, rowvar=False))
    expected = np.square(x.mean(0) - y.mean(0)).sum() + traces - 2 * np.sqrt(roots).sum()
    assert d.frechet_distance(x, y) == pytest.approx(expected, abs=1e-6)
