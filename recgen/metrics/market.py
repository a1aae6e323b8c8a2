"""What came of a market: the A/B test, over rounds and as a whole, and the recommenders that learned from each arm's clicks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from recgen.metrics.ab_test import PAGES, ab_test, per_page
from recgen.metrics.crossed import crossed_difference, crossed_mean
from recgen.metrics.off_policy import arm_values
from recgen.metrics.registry import lookup
from recgen.metrics.statistics import bootstrap_mean, holm, paired_difference

QUALITY = ("recall@10", "ndcg@10")
UNIT = ["user_id", "seed"]


def summary(
    log: pd.DataFrame, quality: pd.DataFrame, arms: Sequence[str], ab: str, seed: int
) -> dict[str, dict[str, Any]]:
    """Return all tables of a market, by effect.

    Parameters
    ----------
    log
        The click log of all worlds, with columns effect, world, seed and expected.
    quality
        What the recommenders of all worlds rank held-out likes like: user_id, round, `QUALITY`, effect, world and seed.
    arms
        The arms, the baseline first.
    ab
        The world in which all arms are shown; every other is named after its only arm.
    seed
        Seed of the bootstrap.

    Returns
    -------
    dict
        By effect (its number as text) ``{"ab": ..., "rounds": [...], "values": ..., "worlds": ...}``: the A/B test of all pages
        and of each round's (`recgen.metrics.ab_test`), with each arm's true clicks (``expected``); the arms' values estimated
        from the same log (`recgen.metrics.off_policy`); and of each arm's own world its clicks and its recommender, beside the
        baseline's world (``over_original``) and beside itself before the first round (``learned``). Each table's p-values of
        uplifts are corrected for the number of arms (Holm, ``p_holm``); those of the recommenders stand as they are.
    """
    found = {}
    for effect, rows in log.groupby("effect", sort=False):
        test = rows[rows["world"] == ab]
        own = quality[quality["effect"] == effect]
        found[f"{effect:g}"] = {
            "ab": _ab(test, arms, seed),
            "rounds": [_ab(each, arms, seed) for _, each in test.groupby("round")],
            "values": arm_values(test, seed),
            "worlds": _worlds(rows[rows["world"] != ab], own[own["world"] != ab], arms, seed),
        }
    return found


def _ab(log: pd.DataFrame, arms: Sequence[str], seed: int) -> dict[str, Any]:
    tested = _tested(log, arms, seed)
    places = len(log) / log["page_id"].nunique()
    expected = PAGES * places * log.groupby("arm")["expected"].mean()
    return {arm: {**tested[arm], "expected": float(expected[arm])} for arm in arms}


def _tested(log: pd.DataFrame, arms: Sequence[str], seed: int) -> dict[str, dict[str, Any]]:
    """Return the A/B test of arms, the baseline first, with ``p_holm`` of uplifts: corrected for the number of arms."""
    found = ab_test(log, arms[0], seed)
    corrected = holm([found[arm]["uplift"]["p"] for arm in arms[1:]])
    for arm, p in zip(arms[1:], corrected, strict=True):
        found[arm]["uplift"]["p_holm"] = p
    return found


def _worlds(log: pd.DataFrame, quality: pd.DataFrame, arms: Sequence[str], seed: int) -> dict[str, Any]:
    """Return of each arm's own world its clicks, their uplift over the baseline's world, and its recommender; {} without any."""
    if log.empty:
        return {}
    tested, pages = _tested(log, arms, seed), per_page(log)
    last = quality[quality["round"] == quality["round"].max()]
    first = quality[quality["round"] == 0]

    def measured(arm: str, name: str) -> dict[str, Any]:
        own = last[last["world"] == arm]
        others = {"learned": first[first["world"] == arm]}
        if arm != arms[0]:
            others["over_original"] = last[last["world"] == arms[0]]
        return {
            **_mean(own, name, seed),
            "over_original": None,
            **{key: _difference(own, other, name, seed) for key, other in others.items()},
        }

    return {
        arm: {
            **tested[arm],
            "rounds": [
                float(PAGES * each["clicks"].mean())
                for _, each in pages[pages["arm"] == arm].groupby("round")
            ],
            "quality": {name: measured(arm, name) for name in QUALITY},
        }
        for arm in arms
    }


def _mean(rows: pd.DataFrame, name: str, seed: int) -> dict[str, Any]:
    if rows["seed"].nunique() == 1:
        found = bootstrap_mean(rows[name].to_numpy(), rows["user_id"].to_numpy(), seed)
    else:
        found = crossed_mean(rows[name].to_numpy(), _units(rows))
    return found.within(lookup(name).bounds).as_json()


def _difference(a: pd.DataFrame, b: pd.DataFrame, name: str, seed: int) -> dict[str, Any]:
    """Return a minus b, user by user and repetition by repetition; over users alone where one repetition is all."""
    both = a[[*UNIT, name]].merge(b[[*UNIT, name]], on=UNIT, suffixes=("", "_b"))
    own, other = both[name].to_numpy(), both[f"{name}_b"].to_numpy()
    if both["seed"].nunique() > 1:
        return asdict(crossed_difference(own, other, _units(both)))
    return asdict(paired_difference(own, other, both["user_id"].to_numpy(), seed))


def _units(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    return {"repetition": rows["seed"].to_numpy(), "user": rows["user_id"].to_numpy()}
