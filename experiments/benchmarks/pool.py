"""Retrieval over a large pool of items (I-AM-G eqs. 8 and 9): the inverted file against exhaustive search, one run, one core.

Synthetic rows in clusters, as a catalogue's embeddings lie; queries are rows with noise. Recall is the share of the exhaustive
search's K = 5 nearest that are found. Usage: python experiments/benchmarks/pool.py [--items 1000000] [--width 256]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import faiss
import numpy as np
from data import Clock, environment, write_result

from recgen.features.retrieval import EXACT_UP_TO, ItemPool

K = 5


def rows(count: int, width: int) -> np.ndarray:
    """Draw float32 ``[count, width]``: about 30 rows a cluster, and clusters about a few hundred centres."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(300, width)).astype(np.float32)
    clusters = centres[rng.integers(300, size=count // 30)] + 0.7 * rng.normal(
        size=(count // 30, width)
    ).astype(np.float32)
    found = clusters[rng.integers(len(clusters), size=count)]
    for start in range(0, count, 100_000):
        block = found[start : start + 100_000]
        block += 0.5 * rng.standard_normal(block.shape, dtype=np.float32)
    return found


def main() -> None:
    """Measure and write pool.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--queries", type=int, default=60)
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    features, rng = rows(options.items, options.width), np.random.default_rng(1)
    asked = features[rng.integers(options.items, size=options.queries)]
    asked = asked + 0.3 * rng.standard_normal(asked.shape, dtype=np.float32)
    with Clock() as building:
        pool = ItemPool(features)
    with Clock() as searching:
        found = [pool.nearest(query, K) for query in asked]
    exact = _exhaustive(pool)
    with Clock() as slow:
        true = [_nearest(exact, pool, query) for query in asked]
    recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(found, true, strict=True)])
    write_result(
        Path(__file__),
        {
            "items": options.items,
            "width": options.width,
            "searched exhaustively up to (items times width)": EXACT_UP_TO,
            "seconds to build": building.per(1),
            "milliseconds a query": {
                side: 1000 * value for side, value in searching.per(options.queries).items()
            },
            "milliseconds a query, exhaustive": {
                side: 1000 * value for side, value in slow.per(options.queries).items()
            },
            f"recall at {K}": float(recall),
            "queries": options.queries,
            **environment(),
        },
    )


def _exhaustive(pool: ItemPool) -> faiss.Index:
    index = faiss.IndexFlatIP(pool._vectors.shape[1])
    index.add(pool._vectors)
    return index


def _nearest(index: faiss.Index, pool: ItemPool, query: np.ndarray) -> np.ndarray:
    unit = (query / np.linalg.norm(query)).astype(np.float32)[None]
    return pool.rows[index.search(unit, K)[1][0]]


if __name__ == "__main__":
    main()
