"""Sources of images compared by what a recommender ranks with them, over draws and users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from recgen.metrics.crossed import crossed_difference, crossed_mean
from recgen.metrics.registry import lookup

ORIGINAL = "ORI"
SWAPPED, DEALT = "swapped.", "dealt."
"""Before a generator's name: its creatives for other users, and its creatives of other items."""


@dataclass(frozen=True)
class SourceComparison:
    """Means by source and metric, and paired differences, as metrics.json holds them."""

    means: dict[str, dict[str, Any]]
    tests: list[dict[str, Any]]


def compare(
    table: pd.DataFrame, metrics: Sequence[str], generators: Sequence[str], suffix: str = ""
) -> SourceComparison:
    """Compare sources over the same draws and users.

    Parameters
    ----------
    table
        Columns source, draw, user_id and the metrics; each source has the same draws and users.
    metrics
        The columns to compare.
    generators
        The sources that are generators. Each is compared with its own controls, with every control that all share, and with the
        other generators; the shared controls are compared with the original images.
    suffix
        What is added to the metrics' names.
    """
    sources = list(dict.fromkeys(table["source"]))
    wide = table.pivot(index=["draw", "user_id"], columns="source", values=list(metrics))
    levels = {"draw": "draw", "user": "user_id"}
    factors = {name: wide.index.get_level_values(level).to_numpy() for name, level in levels.items()}
    means = {
        source: {
            f"{key}{suffix}": crossed_mean(wide[key][source].to_numpy(), factors)
            .within(lookup(key).bounds)
            .as_json()
            for key in metrics
        }
        for source in sources
    }
    tests = [
        crossed_difference(wide[key][a].to_numpy(), wide[key][b].to_numpy(), factors).as_json(
            a, b, f"{key}{suffix}"
        )
        for a, b in _pairs(sources, [name for name in generators if name in sources])
        for key in metrics
    ]
    return SourceComparison(means, tests)


def _pairs(sources: Sequence[str], generators: Sequence[str]) -> Iterator[tuple[str, str]]:
    own = {f"{kind}{name}" for name in generators for kind in (SWAPPED, DEALT)}
    shared = [name for name in sources if name not in own and name not in generators]
    for name in generators:
        mine = [f"{kind}{name}" for kind in (SWAPPED, DEALT)]
        yield from ((name, other) for other in (*mine, *shared) if other in sources)
    yield from combinations(generators, 2)
    if ORIGINAL in sources:
        yield from ((name, ORIGINAL) for name in shared if name != ORIGINAL)


def net_of_swapped(table: pd.DataFrame, generator: str, key: str) -> float:
    """Return the mean of a metric with a generator's own creatives less that with its creatives for other users."""
    by_source = table.groupby("source")[key].mean()
    return float(np.float64(by_source[generator]) - np.float64(by_source[f"{SWAPPED}{generator}"]))
