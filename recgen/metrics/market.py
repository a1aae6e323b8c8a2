"""What came of a market: the A/B test, over rounds and as a whole, and the recommenders that learned from each arm's clicks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from recgen.metrics.ab_test import PAGES, ab_test, per_page
from recgen.metrics.crossed import crossed_difference, crossed_mean
from recgen.metrics.off_policy import arm_values
from recgen.metrics.statistics import bootstrap_mean, holm, paired_difference

QUALITY = ("recall@10", "ndcg@10")


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
        from the same log (`recgen.metrics.off_policy`); and of each arm's own world its clicks and its recommender. p-values of
        uplifts are corrected for the number of arms (Holm).
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
    tested = ab_test(log, arms[0], seed)
    places = len(log) / log["page_id"].nunique()
    expected = PAGES * places * log.groupby("arm")["expected"].mean()
    corrected = dict(zip(arms[1:], holm([tested[arm]["uplift"]["p"] for arm in arms[1:]]), strict=True))
    found = {arm: {**tested[arm], "expected": float(expected[arm])} for arm in arms}
    for arm, p in corrected.items():
        found[arm]["uplift"]["p_holm"] = p
    return found


def _worlds(log: pd.DataFrame, quality: pd.DataFrame, arms: Sequence[str], seed: int) -> dict[str, Any]:
    """Return of each arm's own world its clicks, their uplift over the baseline's world, and its recommender; {} without any."""
    if log.empty:
        return {}
    tested, pages = ab_test(log, arms[0], seed), per_page(log)
    last = quality[quality["round"] == quality["round"].max()]
    first = quality[quality["round"] == 0]
    return {
        arm: {
            **tested[arm],
            "rounds": [
                float(PAGES * each["clicks"].mean())
                for _, each in pages[pages["arm"] == arm].groupby("round")
            ],
            "quality": {
                name: {
                    **_mean(last[last["world"] == arm], name, seed),
                    "learned": _difference(
                        last[last["world"] == arm], first[first["world"] == arm], name, seed
                    ),
                    "over_original": None
                    if arm == arms[0]
                    else _difference(last[last["world"] == arm], last[last["world"] == arms[0]], name, seed),
                }
                for name in QUALITY
            },
        }
        for arm in arms
    }


def _mean(rows: pd.DataFrame, name: str, seed: int) -> dict[str, Any]:
    if rows["seed"].nunique() == 1:
        return bootstrap_mean(rows[name].to_numpy(), rows["user_id"].to_numpy(), seed).as_json()
    factors = {each: rows[each].to_numpy() for each in ("user_id", "seed")}
    return crossed_mean(rows[name].to_numpy(), factors).as_json()


def _difference(a: pd.DataFrame, b: pd.DataFrame, name: str, seed: int) -> dict[str, Any]:
    """Return a minus b, user by user and seed by seed: mean, interval and p over both, or over users where one seed is all."""
    unit = ["user_id", "seed"]
    both = a[[*unit, name]].merge(b[[*unit, name]], on=unit, suffixes=("", "_b"))
    gap = both.assign(gap=both[name] - both[f"{name}_b"])
    users = gap.groupby("user_id")["gap"].mean()
    tested = paired_difference(users.to_numpy(), 0 * users.to_numpy(), users.index.to_numpy(), seed)
    found = {name: getattr(tested, name) for name in ("difference", "low", "high", "p", "n")}
    if gap["seed"].nunique() > 1:
        factors = {each: gap[each].to_numpy() for each in unit}
        crossed = crossed_difference(both[name].to_numpy(), both[f"{name}_b"].to_numpy(), factors)
        found |= {"low": crossed.low, "high": crossed.high, "p": crossed.p}
    return found
