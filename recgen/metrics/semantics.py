"""Is it still the same item? The creative against the reference's image and text."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recgen.metrics.personalisation import FloatArray, cosine

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03  # Wang et al. 2004, section III.B
WORK_PIXELS = 256 * 64 * 64  # pixels compared at once, which bounds the work space to about 250 MB


def cs(creatives: FloatArray, texts: FloatArray) -> FloatArray:
    """CLIP score: the creative against the reference item's text (Hessel et al. 2021; RAGAR).

    Parameters
    ----------
    creatives, texts
        ``[n, D]`` CLIP image embeddings of the creatives and CLIP text embeddings of their items' texts.

    Returns
    -------
    float64 ``[n]``, 100 max(cos, 0), from 0 to 100.

    Examples
    --------
    >>> cs(np.array([[3.0, 4.0]]), np.array([[1.0, 0.0]])).tolist()
    [60.0]
    """
    return 100.0 * np.maximum(cosine(creatives, texts), 0.0)


def cis(creatives: FloatArray, references: FloatArray) -> FloatArray:
    """CLIP image score: the creative against the reference's own image (RAGAR).

    Parameters
    ----------
    creatives, references
        ``[n, D]`` CLIP image embeddings; a row of NaN is an item without an image.

    Returns
    -------
    float64 ``[n]``, 100 cos, from -100 to 100; NaN without a reference image.

    Examples
    --------
    >>> cis(np.array([[3.0, 4.0]]), np.array([[0.0, -2.0]])).tolist()
    [-80.0]
    """
    return 100.0 * cosine(creatives, references)


def retrieval_rank(
    creatives: FloatArray, images: FloatArray, rows: NDArray[np.int64], block: int = 1024
) -> FloatArray:
    """Where the item stands when the catalogue is searched with its creative.

    Parameters
    ----------
    creatives
        ``[n, D]`` image embeddings of the creatives; need not be normalised.
    images
        ``[m, D]`` image embeddings of the catalogue; rows of NaN are items without an image.
    rows
        ``[n]`` the row of each creative's item.
    block
        Creatives compared at once.

    Returns
    -------
    float64 ``[n]``, how many other items' images look more like the creative (cosine); 0 finds the item, NaN for an item without
    an image.

    Examples
    --------
    >>> images = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> retrieval_rank(np.array([[1.0, 0.1], [1.0, 0.1]]), images, np.array([0, 1])).tolist()
    [0.0, 2.0]
    """
    known = np.isfinite(images).all(axis=1)
    unit = np.nan_to_num(images / np.linalg.norm(images, axis=1, keepdims=True))
    found = np.full(len(creatives), np.nan)
    for start in range(0, len(creatives), block):
        here = rows[start : start + block]
        cosines = creatives[start : start + block] @ unit.T
        own = cosines[np.arange(len(here)), here][:, None]
        found[start : start + block] = np.where(known[here], ((cosines > own) & known).sum(axis=1), np.nan)
    return found


def content_preservation(motif_item: ArrayLike, motif_creative: ArrayLike) -> FloatArray:
    """Whether the creative still shows what the simulated item is (simulator only).

    Parameters
    ----------
    motif_item, motif_creative
        ``[n]`` index of the item's motif, and of the motif that the attribute reader sees in the creative.

    Returns
    -------
    float64 ``[n]``, 1 where they agree, else 0.

    Examples
    --------
    >>> content_preservation([3, 4], [3, 5]).tolist()
    [1.0, 0.0]
    """
    return (np.asarray(motif_item) == np.asarray(motif_creative)).astype(np.float64)


def ssim(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> FloatArray:
    """Structural similarity of pairs of images (Wang et al. 2004, eq. 13).

    Parameters
    ----------
    first, second
        uint8 ``[n, H, W, 3]`` RGB images of one size, at least 11 x 11.

    Returns
    -------
    float64 ``[n]``, 1 for equal images. Gaussian window 11 x 11 with sigma 1.5, over full windows only
    (torchmetrics adds windows that see a mirrored border), mean of the three channels.

    Examples
    --------
    >>> black, white = np.zeros((1, 16, 16, 3), np.uint8), np.full((1, 16, 16, 3), 255, np.uint8)
    >>> ssim(black, black).tolist(), ssim(black, white).round(4).tolist()
    ([1.0], [0.0001])
    """
    rows = np.arange(len(first))
    return ssim_pairs(first, second, rows, rows)


def ssim_pairs(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> FloatArray:
    """SSIM of ``first[rows[p]]`` with ``second[columns[p]]`` for each pair p.

    Parameters
    ----------
    first, second
        uint8 ``[n, H, W, 3]`` and ``[m, H, W, 3]``.
    rows, columns
        ``[p]`` the pairs, for instance from `recgen.metrics.personalisation.history_pairs`.

    Returns
    -------
    float64 ``[p]``.

    Raises
    ------
    ValueError
        If the sizes differ or a side is shorter than the window of 11 pixels.
    """
    if first.shape[1:] != second.shape[1:] or first.ndim != 4:
        raise ValueError(f"images of one size are needed, got {first.shape} and {second.shape}")
    if min(first.shape[1:3]) < WINDOW:
        raise ValueError(f"SSIM needs at least {WINDOW} x {WINDOW} pixels, got {first.shape[1:3]}")
    blur = _Blur(*first.shape[1:3])
    step = max(1, WORK_PIXELS // (first.shape[1] * first.shape[2]))
    values = np.empty(len(rows), dtype=np.float64)
    for start in range(0, len(rows), step):
        here = slice(start, start + step)
        x, mean_x, var_x = _moments(first, rows[here], blur)
        y, mean_y, var_y = _moments(second, columns[here], blur)
        values[here] = _ssim(mean_x, mean_y, var_x, var_y, blur(x * y) - mean_x * mean_y)
    return values


def _ssim(
    mean_x: FloatArray, mean_y: FloatArray, var_x: FloatArray, var_y: FloatArray, cov: FloatArray
) -> FloatArray:
    """Wang et al. 2004, eq. 13, for a dynamic range of 1, averaged over windows and channels."""
    c1, c2 = K1**2, K2**2
    top = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    bottom = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    values = (top / bottom).mean(axis=(1, 2, 3), dtype=np.float64)
    return np.clip(values, -1.0, 1.0)  # single precision: a variance of nearly nothing may be less than none


class _Blur:
    """The Gaussian window as two banded matrices: on small images far faster than a convolution."""

    def __init__(self, height: int, width: int) -> None:
        self.down, self.across = _band(height), _band(width).T

    def __call__(self, images: FloatArray) -> FloatArray:
        return self.down @ images @ self.across


def _band(length: int) -> FloatArray:
    offsets = np.arange(WINDOW) - WINDOW // 2
    kernel = np.exp(-(offsets**2) / (2 * SIGMA**2))
    kernel /= kernel.sum()
    matrix = np.zeros((length - WINDOW + 1, length), dtype=np.float32)
    for row in range(len(matrix)):
        matrix[row, row : row + WINDOW] = kernel
    return matrix


def _moments(images: NDArray[np.uint8], rows: NDArray[np.int64], blur: _Blur) -> tuple[FloatArray, ...]:
    """Pixels in [0, 1], windowed mean and variance of ``images[rows]``; repeated rows are blurred once."""
    distinct, back = np.unique(rows, return_inverse=True)
    values = np.ascontiguousarray(np.moveaxis(images[distinct], -1, 1), dtype=np.float32)
    values /= np.float32(255)
    mean = blur(values)
    return values[back], mean[back], (blur(values**2) - mean**2)[back]
