"""What users lose when they share creatives, and what is saved: own creatives beside those of ever fewer groups."""

from __future__ import annotations

from typing import Any

import pandas as pd

from recgen.metrics.statistics import bootstrap_mean, paired_difference

METRICS = ("true_utility_gain", "score_gain_judge", "percentile_gain_judge", "verifier_gain")
"""What is compared, where it was measured; the first says what was asked of images, if it is known."""
OWN = 0
"""The level of users' own creatives, beside numbers of groups."""


def levels(groups: int) -> list[int]:
    """Return the numbers of groups to compare with own creatives: `groups`, and fourths of it down to one image for all.

    Examples
    --------
    >>> levels(64), levels(6)
    ([64, 16, 4, 1], [6, 1])
    """
    found = [groups]
    while found[-1] > 1:
        found.append(max(found[-1] // 4, 1))
    return found


def curve(table: pd.DataFrame, images: dict[int, int], seed: int) -> list[dict[str, Any]]:
    """Return what each level of sharing earns, loses and saves, own creatives first.

    Parameters
    ----------
    table
        A row per level and request: ``level`` (`OWN`, or how many groups), ``user_id``, ``item_id`` and any of `METRICS`.
    images
        By level, how many images all of a run's requests take.
    seed
        Seed of the bootstraps.

    Returns
    -------
    list of dict
        ``groups`` (None for own creatives), ``images``, ``saved`` (share of the images of own creatives), ``gain`` (by metric, an
        estimate) and ``lost`` (by metric, own less shared over the same requests: a difference with its interval and p; not for
        own creatives).
    """
    keys = ["user_id", "item_id"]
    own = table[table["level"] == OWN].set_index(keys)
    users = own.index.get_level_values(0).to_numpy()
    found = []
    for level in sorted(images, key=lambda level: (level != OWN, -level)):
        rows = table[table["level"] == level].set_index(keys).loc[own.index]
        measured = [name for name in METRICS if name in rows]
        entry: dict[str, Any] = {
            "groups": None if level == OWN else level,
            "images": images[level],
            "saved": 1 - images[level] / images[OWN],
            "gain": {name: bootstrap_mean(rows[name], users, seed).as_json() for name in measured},
        }
        if level != OWN:
            entry["lost"] = {
                name: paired_difference(own[name], rows[name], users, seed).as_json("own", "shared", name)
                for name in measured
            }
        found.append(entry)
    return found
