"""What a trial is measured by beside the downstream stage: the market's clicks, and the judge net of other users' creatives.

Both are measured once a trial, before the retrainings, and like those on validation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from recgen.config.tune import Tune
from recgen.core.errors import UserError
from recgen.data.click_log import ORIGINAL
from recgen.metrics.contrasts import REQUEST
from recgen.pipeline.context import RunContext
from recgen.pipeline.controls import SWAPPED

UPLIFT, NET = "market_uplift", "judge_net_of_swapped"
ONCE = (UPLIFT, NET)
"""Objectives that are measured once a trial."""
GAIN = "standardised_gain_judge"
MARKET = {"market.own_worlds": False, "market.negative_control": False, "market.controls": []}
"""What a trial's market leaves out: everything but the A/B test of the originals and the generators."""


def measured_once(settings: Tune) -> list[str]:
    """Return those of a study's objectives that are measured once a trial."""
    return [name for name in settings.objectives if name in ONCE]


def changes(settings: Tune) -> dict[str, Any]:
    """Return what the objectives change in a trial's configuration, by key below ``recgen:``."""
    return dict(MARKET) if UPLIFT in settings.objectives else {}


def goals(run: RunContext) -> list[str]:
    """Return the tasks that the objectives of a trial need.

    Raises
    ------
    UserError
        Where the run has no creatives of other users to compare with.
    """
    asked = measured_once(run.settings.tune)
    if NET in asked and "swapped" not in run.settings.controls:
        raise UserError(
            f"{run.config.source}: recgen.tune.objectives",
            found=f"{NET}, and recgen.controls without swapped",
            expected="swapped among the controls, which draws the creatives of other users",
        )
    names = run.settings.generators
    compared = [f"evaluate/{source}{name}" for name in names for source in ("", SWAPPED)]
    return [*(compared if NET in asked else []), *(["market"] if UPLIFT in asked else [])]


def values(run: RunContext) -> dict[str, float]:
    """Return what a trial's finished tasks say, the mean over its generators."""
    asked, names = measured_once(run.settings.tune), run.settings.generators
    found = {}
    if UPLIFT in asked:
        found[UPLIFT] = _mean(_uplift(run, name) for name in names)
    if NET in asked:
        found[NET] = _mean(_net_of_swapped(run, name) for name in names)
    return found


def _uplift(run: RunContext, name: str) -> float:
    """Return a generator's clicks per 1,000 pages over the originals'."""
    summary = json.loads((run.folder / "market/summary.json").read_text(encoding="utf-8"))
    (effect,) = summary["effects"].values()
    return float(effect["ab"][name]["clicks"]["value"] - effect["ab"][ORIGINAL]["clicks"]["value"])


def _net_of_swapped(run: RunContext, name: str) -> float:
    """Return how much more the judge gives for the own creative than for another user's, in standard deviations of scores."""
    own, other = (
        pd.read_parquet(run.folder / f"evaluation/{source}{name}.parquet", columns=[*REQUEST, GAIN])
        for source in ("", SWAPPED)
    )
    both = own.merge(other, on=REQUEST, suffixes=("", "_other"))
    return float((both[GAIN] - both[f"{GAIN}_other"]).mean())


def _mean(each: Iterable[float]) -> float:
    return float(np.mean(list(each)))
