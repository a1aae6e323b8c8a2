"""k-means by FAISS, the same for the same seed."""

from __future__ import annotations

import numpy as np

ROUNDS, STARTS = 50, 5
"""k-means settles in fewer rounds; of several starts the best counts, for one may end where two groups share a centre."""


def k_means(points: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return centres, float32 ``[k, D]``, and each point's cluster, int64 ``[n]``.

    Parameters
    ----------
    points
        float32 ``[n, D]``.
    count
        How many clusters, at most one a point; k is this less those that stayed empty.
    seed
        Which points are the first centres.
    """
    import faiss

    points = np.ascontiguousarray(points, dtype=np.float32)
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": len(points)}
    search = faiss.Kmeans(
        points.shape[1], min(count, len(points)), niter=ROUNDS, nredo=STARTS, seed=seed % 2**31, **limits
    )
    search.train(points)
    nearest = search.index.search(points, 1)[1][:, 0]
    used, members = np.unique(nearest, return_inverse=True)
    return np.asarray(search.centroids)[used], members.astype(np.int64)
