"""An A/B test of arms on pages: clicks per 1,000 pages, and what an arm gains over the baseline.

Every user sees pages of every arm, so an arm is compared with the baseline within each user; users, and repetitions with other
seeds where there are several, are the units.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recgen.metrics.crossed import crossed_difference, crossed_mean
from recgen.metrics.statistics import bootstrap_mean, paired_difference

PAGES = 1_000
"""What clicks are counted by."""


def ab_test(log: pd.DataFrame, baseline: str, seed: int) -> dict[str, dict[str, Any]]:
    """Return each arm's clicks per 1,000 pages and its uplift over the baseline.

    Parameters
    ----------
    log
        A click log (`recgen.data.click_log`); a column ``seed`` tells repetitions apart, whose pages have other ids.
    baseline
        The arm to compare with.
    seed
        Seed of the bootstrap.

    Returns
    -------
    dict
        Arm to ``{"pages": int, "clicks": estimate, "uplift": difference}``, both per 1,000 pages; the baseline has no uplift.
        With several repetitions intervals and p are those of `recgen.metrics.crossed` over users and repetitions (no p for fewer
        than five), else those of a studentised bootstrap and of sign flips over users.
    """
    pages = per_page(log)
    found: dict[str, dict[str, Any]] = {}
    for arm in dict.fromkeys([baseline, *sorted(pages["arm"].unique())]):
        mine = pages[pages["arm"] == arm]
        found[arm] = {"pages": len(mine), "clicks": _clicks(mine, seed)}
        if arm != baseline:
            found[arm]["uplift"] = uplift(pages, arm, baseline, seed)
    return found


def uplift(pages: pd.DataFrame, arm: str, baseline: str, seed: int) -> dict[str, Any]:
    """Return an arm's clicks per 1,000 pages minus the baseline's, as `ab_test` describes it; `pages` as of `per_page`."""
    means = pages.groupby(["user_id", "seed", "arm"])["clicks"].mean().unstack("arm")
    both = PAGES * means.reindex(columns=[arm, baseline]).dropna()
    own, others, units = both[arm].to_numpy(), both[baseline].to_numpy(), _units(both.reset_index())
    if len(np.unique(units["repetition"])) > 1:
        result = crossed_difference(own, others, units)
    else:
        result = paired_difference(own, others, units["user"], seed)
    return result.as_json(arm, baseline, "clicks per 1,000 pages")


def _clicks(pages: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Return an arm's clicks per 1,000 pages, as `ab_test` describes it."""
    values, units = PAGES * pages["clicks"].to_numpy(), _units(pages)
    if len(np.unique(units["repetition"])) > 1:
        return crossed_mean(values, units).as_json()
    return bootstrap_mean(values, units["user"], seed).as_json()


def _units(table: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Return what differs at random between rows, by name."""
    return {"repetition": table["seed"].to_numpy(), "user": table["user_id"].to_numpy()}


def per_page(log: pd.DataFrame) -> pd.DataFrame:
    """Return one row per page: user_id, seed (0 where the log has none), round, arm and clicks.

    Raises
    ------
    ValueError
        Where a page shows images of several arms: which of them earned its clicks is then not known.
    """
    log = log if "seed" in log else log.assign(seed=0)
    found = log.groupby(["seed", "page_id"], sort=False).agg(
        user_id=("user_id", "first"),
        round=("round", "first"),
        arm=("arm", "first"),
        arms=("arm", "nunique"),
        clicks=("click", "sum"),
    )
    if (found["arms"] > 1).any():
        raise ValueError("a page of several arms has no arm; see recgen.metrics.off_policy")
    return found.reset_index().drop(columns="arms")
