"""Similarity to the reference: SSIM against torchmetrics, the CLIP scores by hand."""

import numpy as np
import pytest
import torch

from recgen.core.compat import prepare_torchvision
from recgen.metrics import semantics as s

prepare_torchvision()  # torchmetrics imports torchvision


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(rng.normal(size=(6, 40, 52, 3)), axis=1), axis=2)
    low, high = smooth.min(axis=(1, 2, 3), keepdims=True), smooth.max(axis=(1, 2, 3), keepdims=True)
    first = (255 * (smooth - low) / (high - low)).astype(np.uint8)
    noise = rng.normal(scale=25, size=first.shape)
    return first, np.clip(first + noise, 0, 255).astype(np.uint8)


def torchmetrics_ssim(first, second):
    from torchmetrics.functional.image import structural_similarity_index_measure

    x, y = (torch.tensor(a).permute(0, 3, 1, 2).double() / 255 for a in (first, second))
    windows = structural_similarity_index_measure(
        x, y, data_range=1.0, reduction="none", return_full_image=True
    )[1]
    return (
        windows[:, :, 5:-5, 5:-5].mean(dim=(1, 2, 3)).numpy()
    )  # without the windows that see a mirrored border


def test_ssim_equals_torchmetrics(images):
    first, second = images
    ours = s.ssim(first, second)
    assert np.allclose(ours, torchmetrics_ssim(first, second), atol=1e-5)
    assert (
        0.05 < ours.min() < ours.max() < 0.95
    )  # neither alike nor unrelated, so that the comparison says something


def test_ssim_pairs_equals_one_at_a_time_whatever_the_chunk(images, monkeypatch):
    first, second = images
    rows, columns = np.array([0, 0, 3, 5, 3]), np.array([1, 1, 0, 5, 2])
    together = s.ssim_pairs(first, second, rows, columns)
    alone = [s.ssim(first[[r]], second[[c]])[0] for r, c in zip(rows, columns, strict=True)]
    monkeypatch.setattr(s, "WORK_PIXELS", 2 * 40 * 52)
    in_twos = s.ssim_pairs(first, second, rows, columns)
    assert np.allclose(together, alone, atol=1e-6) and np.allclose(together, in_twos, atol=1e-6)


def test_ssim_of_an_image_with_itself_is_one_and_is_symmetric(images):
    first, second = images
    assert np.allclose(s.ssim(first, first), 1.0, atol=1e-6)
    assert np.allclose(s.ssim(first, second), s.ssim(second, first), atol=1e-6)


def test_ssim_of_two_flat_images_by_hand():
    dark, light = (np.full((1, 16, 16, 3), level, np.uint8) for level in (51, 153))  # 0.2 and 0.6
    assert s.ssim(dark, light)[0] == pytest.approx(
        (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4), abs=1e-4
    )


@pytest.mark.parametrize("shape, message", [((1, 16, 16, 3), "one size"), ((1, 8, 40, 3), "at least 11")])
def test_ssim_says_what_is_wrong_with_the_sizes(shape, message):
    other = np.zeros((1, 8, 40, 3), np.uint8)
    with pytest.raises(ValueError, match=message):
        s.ssim(np.zeros(shape, np.uint8), other)


def test_clip_scores_by_hand():
    creatives, others = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [-2.0, 0.0]])
    assert np.allclose(s.cis(creatives, others), [80.0, -100.0])
    assert np.allclose(s.cs(creatives, others), [80.0, 0.0])


def test_content_preservation_compares_motifs():
    assert s.content_preservation(np.array([0, 1, 2]), np.array([0, 2, 2])).tolist() == [1.0, 0.0, 1.0]


def test_an_item_is_found_again_by_its_creative_where_nothing_looks_more_like_it():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(60, 8))
    images[5] = np.nan
    rows = np.arange(60)
    made = np.nan_to_num(images) + 0.5 * rng.normal(size=(60, 8))
    found = s.retrieval_rank(made, images, rows, block=7)
    unit = images / np.linalg.norm(images, axis=1, keepdims=True)
    for row in (0, 17, 59):
        cosines = unit @ made[row]
        assert found[row] == np.nansum(cosines > cosines[row])
    assert np.isnan(found[5]) and np.isnan(found).sum() == 1
    assert (s.retrieval_rank(np.nan_to_num(images), images, rows)[rows != 5] == 0).all()


def test_ssim_is_never_above_one():
    """Nearly constant images, whose variances single precision may make negative."""
    rng = np.random.default_rng(1)
    flat = np.clip(200 + rng.integers(0, 2, size=(200, 24, 24, 3)), 0, 255).astype(np.uint8)
    assert s.ssim(flat, flat).max() <= 1.0 and s.ssim(flat, flat[::-1]).max() <= 1.0


def test_ssim_of_an_image_and_its_negative_is_below_zero(images):
    first = images[0]
    ours = s.ssim(first, 255 - first)
    assert ours.max() < 0 and np.allclose(ours, torchmetrics_ssim(first, 255 - first), atol=1e-5)


def test_ssim_stays_within_its_bounds_where_single_precision_does_not():
    one = np.ones((1, 3, 2, 2))
    assert s._ssim(one, one, -1e-5 * one, -1e-5 * one, 0 * one).tolist() == [1.0]
    assert s._ssim(0 * one, 0 * one, 0 * one, 0 * one, -1e-3 * one).tolist() == [-1.0]


def test_ssim_takes_images_of_the_windows_own_size_and_larger_than_the_work_space(images, monkeypatch):
    assert s.ssim(np.zeros((1, 11, 11, 3), np.uint8), np.zeros((1, 11, 11, 3), np.uint8)).tolist() == [1.0]
    with pytest.raises(ValueError, match="at least 11"):
        s.ssim(np.zeros((1, 40, 10, 3), np.uint8), np.zeros((1, 40, 10, 3), np.uint8))
    expected = s.ssim(*images)
    monkeypatch.setattr(s, "WORK_PIXELS", 1)
    np.testing.assert_allclose(s.ssim(*images), expected, atol=1e-6)
