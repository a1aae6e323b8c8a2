"""Do the creatives, as a set, look like real images? CMMD and the Frechet distance."""

from __future__ import annotations

from functools import cached_property
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recgen.metrics.personalisation import FloatArray
from recgen.metrics.statistics import Estimate

SIGMA, SCALE = 10.0, 1000.0  # Jayasumana et al. 2024, section 4
ROWS_AT_ONCE = 2048

Estimator = Literal["unbiased", "biased"]


def cmmd(real: FloatArray, creatives: FloatArray, estimator: Estimator = "unbiased") -> float:
    """CLIP maximum mean discrepancy between two sets of images (Jayasumana et al. 2024, eq. 5).

    Parameters
    ----------
    real, creatives
        ``[m, D]`` and ``[n, D]`` CLIP image embeddings; they are L2-normalised here.
    estimator
        ``"unbiased"`` is the paper's equation: on average it does not depend on the set sizes, and for alike
        sets it falls below zero about as often as above. ``"biased"`` keeps each image's similarity with
        itself, as the authors' code does: compare it with published numbers; it grows as sets shrink.

    Returns
    -------
    1000 MMD^2 for an RBF kernel with sigma 10.

    Raises
    ------
    ValueError
        If a set has fewer than two images.

    Examples
    --------
    >>> sets = np.array([[2.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 3.0]])
    >>> round(cmmd(*sets), 4)  # two points sqrt(2) apart: 2000 (1 - exp(-2 / 200))
    19.9003
    """
    return _Kernel(real, creatives, np.arange(len(creatives))).value(estimator)


def cmmd_by_user(
    real: FloatArray | ReferenceSet, creatives: FloatArray, users: ArrayLike, level: float = 0.95
) -> Estimate:
    """CMMD (unbiased) with a jackknife interval over users.

    A bootstrap would draw the same creative twice, and an image's distance to its own copy is 0, which
    distorts the statistic; leaving out one user at a time does not. The real set is held fixed.

    Parameters
    ----------
    real, creatives
        As for `cmmd`; `real` may be a `ReferenceSet`, which several calls share.
    users
        ``[n]`` the user of each creative.
    level
        Coverage of the interval.

    Returns
    -------
    Estimate whose n is the number of creatives; without an interval when there are fewer than three users.
    """
    from scipy import stats

    kernel = _Kernel(real, creatives, np.unique(np.asarray(users), return_inverse=True)[1])
    value, without = kernel.value("unbiased"), kernel.without_each_user()
    if len(without) < 3:
        return Estimate(value, None, None, len(creatives))
    spread = np.sqrt((len(without) - 1) / len(without) * np.square(without - without.mean()).sum())
    margin = float(stats.t.ppf((1 + level) / 2, len(without) - 1) * spread)
    return Estimate(value, value - margin, value + margin, len(creatives))


class ReferenceSet:
    """Real images that several sets of creatives are compared with: what concerns them alone is summed once.

    Parameters
    ----------
    embeddings
        ``[m, D]`` CLIP image embeddings, as for `cmmd`.
    """

    def __init__(self, embeddings: FloatArray) -> None:
        self.rows = _normalised(embeddings)

    @cached_property
    def within(self) -> float:
        """Sum of the kernel over all pairs, less 1 each."""
        starts = range(0, len(self.rows), ROWS_AT_ONCE)
        blocks = [self.rows[start : start + ROWS_AT_ONCE] for start in starts]
        diagonal = sum(_kernel(block, block).sum(dtype=np.float64) for block in blocks)
        beside = sum(_kernel(*pair).sum(dtype=np.float64) for pair in combinations(blocks, 2))
        return float(diagonal + 2 * beside)


class _Kernel:
    """Sums of the kernel matrix, by user of the creative, in memory linear in the number of images.

    Every entry is taken less 1, which cancels in MMD: entries lie between 0.98 and 1, and what is left of them in float32 is as
    exact as all of them in float64.
    """

    def __init__(
        self, real: FloatArray | ReferenceSet, creatives: FloatArray, users: NDArray[np.int64]
    ) -> None:
        reference = real if isinstance(real, ReferenceSet) else ReferenceSet(real)
        x, y = reference.rows, _normalised(creatives)
        if len(x) < 2 or len(y) < 2:
            raise ValueError(f"CMMD needs two images a set, got {len(x)} and {len(y)}")
        self.m, self.n, self.count = len(x), len(y), np.bincount(users)
        self.real = reference.within
        self.cross, self.alike = (np.bincount(users, weights=_row_sums(y, other)) for other in (x, y))
        order = np.argsort(users, kind="stable")
        own = np.split(y[order], np.cumsum(self.count)[:-1])
        self.within = np.array([_row_sums(rows, rows).sum() for rows in own])

    def value(self, estimator: Estimator) -> float:
        alike, cross, n = (np.array([part]) for part in (self.alike.sum(), self.cross.sum(), float(self.n)))
        return float(self._mmd(alike, cross, n, estimator).item())

    def without_each_user(self) -> FloatArray:
        """Return the unbiased value without each user's creatives, ``[users]``, of those whose absence leaves at least two."""
        alike = self.alike.sum() - 2 * self.alike + self.within
        left = (self.n - self.count).astype(np.float64)
        enough = left >= 2
        return self._mmd(alike[enough], (self.cross.sum() - self.cross)[enough], left[enough], "unbiased")

    def _mmd(self, alike: FloatArray, cross: FloatArray, n: FloatArray, estimator: Estimator) -> FloatArray:
        m, self_pairs = (
            self.m,
            1 if estimator == "unbiased" else 0,
        )  # an image's pair with itself adds 0 to a sum
        within_real, within_creatives = self.real / (m * (m - self_pairs)), alike / (n * (n - self_pairs))
        return SCALE * (within_real + within_creatives - 2 * cross / (m * n))


def _row_sums(rows: FloatArray, columns: FloatArray) -> FloatArray:
    """Return each row's sum of the kernel, less 1 each, with all `columns`: float64 ``[len(rows)]``, tile by tile."""
    sums = np.zeros(len(rows))
    for row in range(0, len(rows), ROWS_AT_ONCE):
        for column in range(0, len(columns), ROWS_AT_ONCE):
            here = slice(row, row + ROWS_AT_ONCE)
            tile = _kernel(rows[here], columns[column : column + ROWS_AT_ONCE])
            sums[here] += tile.sum(axis=1, dtype=np.float64)
    return sums


def _kernel(rows: FloatArray, columns: FloatArray) -> FloatArray:
    """Return the kernel of unit vectors less 1, float32 ``[len(rows), len(columns)]``."""
    squared = np.maximum(2.0 - 2.0 * (rows @ columns.T), 0.0)
    return np.expm1(squared / (-2.0 * SIGMA**2))


def _normalised(embeddings: FloatArray) -> FloatArray:
    values = np.asarray(embeddings, dtype=np.float64)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    if not (norms > 0).all():
        raise ValueError("an embedding is zero or NaN; leave out items without an image")
    return (values / norms).astype(np.float32)


def frechet_distance(real: FloatArray, creatives: FloatArray) -> float:
    """Frechet distance between Gaussians fitted to two sets of features (Heusel et al. 2017); on Inception
    features it is FID.

    Parameters
    ----------
    real, creatives
        ``[m, F]`` and ``[n, F]`` features, for FID from `recgen.metrics.networks.inception_features`.

    Returns
    -------
    The squared distance, at least 0. It falls as the sets grow, so compare equal set sizes only.

    Raises
    ------
    ValueError
        If a set has fewer than two images.

    Examples
    --------
    >>> frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]]))  # same spread, means 3 apart
    9.0
    """
    x, y = np.asarray(real, dtype=np.float64), np.asarray(creatives, dtype=np.float64)
    if len(x) < 2 or len(y) < 2:
        raise ValueError(f"the Frechet distance needs two images a set, got {len(x)} and {len(y)}")
    mean = float(np.square(x.mean(axis=0) - y.mean(axis=0)).sum())
    centred_x, centred_y = ((rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1) for rows in (x, y))
    spread = float(np.square(centred_x).sum() + np.square(centred_y).sum())
    # trace of (Cx Cy)^(1/2) = sum of the singular values of the product of the two square roots; with n below
    # F this stays exact where a matrix square root of a singular matrix does not
    overlap = float(np.linalg.svd(_root(centred_x) @ _root(centred_y).T, compute_uv=False).sum())
    return max(mean + spread - 2.0 * overlap, 0.0)


def _root(centred: FloatArray) -> FloatArray:
    """A matrix R of at most F rows with R'R the covariance."""
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(centred) > centred.shape[1] else centred
