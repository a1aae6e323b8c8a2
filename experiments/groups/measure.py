"""What is lost when users share creatives, and what is saved: true gain of `taste`'s images as groups shrink.

The worlds of `experiments/gate` (160 users, 48 requests drawn blind a seed): every request's user is shown the creative drawn for
the user, and that of the user's group with 64, 16, 4 groups and one. `dealt` has 16 groups of the same sizes to which users are
dealt at random, each with a member at random as its representative: what sharing costs without clustering.

    python -m experiments.groups.measure --work runs/gate
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.gate.measure import arguments, world
from recgen.core.io import write_json
from recgen.core.seeding import numpy_rng
from recgen.metrics import sharing
from recgen.metrics.statistics import paired_difference
from recgen.pipeline.context import RunContext
from recgen.stages import group_curve, groups

HERE = Path(__file__).parent
GENERATOR, MOST, COMPARED = "taste", 64, 16
DEALT = -COMPARED
"""The level of groups to which users are dealt at random."""


def dealt(run: RunContext, points: np.ndarray) -> dict[str, str]:
    """Return for every user a representative of a group at random, of as many groups and the same sizes as clusters have."""
    rng = numpy_rng(run.settings.seed, "users dealt to groups")
    clusters = groups.grouped(run, points, COMPARED)["group"].to_numpy()
    users, labels = np.array(run.data.user_ids), rng.permutation(clusters)
    return {
        str(user): str(chosen)
        for label in np.unique(labels)
        for chosen in [rng.choice(users[labels == label])]
        for user in users[labels == label]
    }


def of_seed(run: RunContext) -> tuple[pd.DataFrame, dict[int, int]]:
    """Return a row per level and request of a world, and the images that all its requests take by level."""
    points = groups.tastes(run)
    levels = (sharing.OWN, *sharing.levels(MOST))
    shown = {level: group_curve.who(run, level, points) for level in levels} | {DEALT: dealt(run, points)}
    table = group_curve.compare(run, GENERATOR, run.requests, shown)[0]
    seed = run.settings.seed
    return table.assign(user_id=f"{seed}/" + table["user_id"], seed=seed), {
        level: group_curve.images_of(run.requests, of) for level, of in shown.items()
    }


def measured(worlds: Sequence[RunContext]) -> dict[str, Any]:
    """Return the curve over all worlds, that of each, and clusters against groups at random."""
    found = [of_seed(run) for run in worlds]
    table = pd.concat([rows for rows, _ in found], ignore_index=True)
    images = {level: sum(count[level] for _, count in found) for level in found[0][1]}
    keys = ["user_id", "item_id"]
    gain = table.set_index([*keys, "level"])["true_utility_gain"].unstack()
    who = gain.index.get_level_values("user_id").to_numpy()
    clusters = paired_difference(gain[COMPARED], gain[DEALT], who, seed=0)
    return {
        "seeds": [run.settings.seed for run in worlds],
        "requests": len(gain),
        "curve": sharing.curve(table, images, seed=0),
        "clusters over dealt groups": clusters.as_json("clusters", "dealt", "true_utility_gain"),
        "by seed": {str(run.settings.seed): _means(rows) for run, (rows, _) in zip(worlds, found, strict=True)},
    }  # fmt: skip


def _means(rows: pd.DataFrame) -> dict[str, float]:
    """Return the mean true gain by level of one world."""
    return {
        str(level): float(gain) for level, gain in rows.groupby("level")["true_utility_gain"].mean().items()
    }


def main() -> None:
    """Measure what the command line asks for and write result.json."""
    given = arguments(__doc__)
    worlds = [world(given, seed) for seed in given.seeds]
    text = json.dumps(measured(worlds))
    write_json(HERE / "result.json", json.loads(text, parse_float=lambda x: float(f"{float(x):.4g}")))


if __name__ == "__main__":
    main()
