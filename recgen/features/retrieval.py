"""Nearest neighbours by cosine over a pool of items, by FAISS: exact for small pools, an inverted file for large ones."""

from __future__ import annotations

import faiss
import numpy as np

EXACT_UP_TO = 16_000_000
"""Numbers in a pool (items times width) that are searched exhaustively: 64 MB, about 10 ms a query on one core."""
_SPARE = 8  # further neighbours asked for, so that near ties at the end are decided here
_DIGITS = 6  # similarities that differ by less are ties


class ItemPool:
    """The embeddings of a catalogue, to be searched by cosine similarity (I-AM-G eqs. 6 and 7).

    Parameters
    ----------
    features
        float32 ``[n_items, D]``; rows that are not finite, of items without an image or text, are not in the pool.
    exact_up_to
        Pools of at most so many numbers are searched exhaustively.
    probes
        Of a larger pool's about ``2 sqrt(n)`` lists, how many a query reads; their items are compared in half precision first.
    """

    def __init__(self, features: np.ndarray, exact_up_to: int = EXACT_UP_TO, probes: int = 16) -> None:
        self.rows = np.flatnonzero(np.isfinite(features).all(axis=1))
        self._vectors = _unit(features[self.rows])
        self._index = searchable(self._vectors, self._vectors.size <= exact_up_to, 2, probes)

    def __len__(self) -> int:
        return len(self.rows)

    def nearest(self, query: np.ndarray, k: int) -> np.ndarray:
        """Return the catalogue rows of the `k` items most similar to a query ``[D]`` (eqs. 8 and 9), int64, most similar first.

        Fewer where the pool has fewer. Ties go to the lower row. A query is searched for alone, so that the answer does not
        depend on what else is asked.
        """
        query = _unit(np.asarray(query, dtype=np.float32)[None])
        _, found = self._index.search(query, min(k + _SPARE, len(self)))
        candidates = found[0][found[0] >= 0]
        similarity = np.round(self._vectors[candidates].astype(np.float64) @ query[0], _DIGITS)
        order = np.lexsort((self.rows[candidates], -similarity))
        return self.rows[candidates[order[:k]]]


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.ascontiguousarray(rows / np.maximum(lengths, 1e-12), dtype=np.float32)


def searchable(vectors: np.ndarray, exact: bool, lists: int, probes: int) -> faiss.Index:
    """Return an index of unit rows float32 ``[n, D]`` by inner product.

    Parameters
    ----------
    vectors
        The rows.
    exact
        Whether to search exhaustively.
    lists
        Else, the inverted file's lists are this times the root of n. Half precision halves the file; who searches it compares
        what it returns in full.
    probes
        Lists that a query reads.
    """
    count, width = vectors.shape
    flat = faiss.IndexFlatIP(width)
    if exact:
        flat.add(vectors)
        return flat
    size = int(lists * np.sqrt(count))
    index = faiss.IndexIVFScalarQuantizer(
        flat, width, size, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.max_points_per_centroid, index.cp.niter = 40, 8
    index.train(vectors)
    index.add(vectors)
    index.nprobe = probes
    return index
