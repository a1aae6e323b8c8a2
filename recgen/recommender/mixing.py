"""How creatives become item features: arms of the downstream test, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from recgen.core.seeding import numpy_rng

Features = NDArray[np.float32]


def mix(features: Features, means: dict[int, Features], weight: float) -> Features:
    """Return features in which some items' are mixed with the mean of their creatives.

    Parameters
    ----------
    features
        The catalogue's raw image features, float32 ``[n, D]``; a row of NaN is an item without an image.
    means
        By row, the mean of an item's creatives' embeddings, float32 ``[D]``.
    weight
        w of (1 - w) x own + w x mean; an item without an image takes the mean alone.
    """
    mixed = features.copy()
    for row, mean in means.items():
        own = features[row]
        mixed[row] = (1 - weight) * own + weight * mean if np.isfinite(own).all() else mean
    return mixed


def item_means(rows: Sequence[int] | NDArray[np.int64], embeddings: Features) -> dict[int, Features]:
    """Return the mean of each item's embeddings, by row in the order in which items first come; ``rows[n]`` is of which item."""
    places: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(int(row), []).append(place)
    return {row: embeddings[mine].mean(axis=0) for row, mine in places.items()}


def dealt(means: dict[int, Features], run_seed: int, turn: int) -> dict[int, Features]:
    """Return the means with each item's given to another of them, in a circle that seed and draw decide."""
    rows = list(means)
    order = [
        rows[place] for place in numpy_rng(run_seed, "downstream dealt", str(turn)).permutation(len(rows))
    ]
    return {row: means[giver] for row, giver in zip(order, [*order[1:], *order[:1]], strict=True)}


def random_items(
    features: Features, counts: Iterable[tuple[int, int]], run_seed: int, turn: int
) -> dict[int, Features]:
    """Return for each (row, k) the mean of k images of other items, drawn by seed, draw and row."""
    known = np.flatnonzero(np.isfinite(features).all(axis=1))
    found = {}
    for row, k in counts:
        others = known[known != row]
        if len(others):
            rng = numpy_rng(run_seed, "downstream random item", str(turn), str(row))
            found[row] = features[rng.choice(others, size=k)].mean(axis=0)
    return found
