"""Own creative minus a control's, on the same request: the only comparisons a claim of personalisation can rest on.

A user's own creative and another user's creative of the same item are drawn by one generator, and both show the item. What is
left of the difference is what drawing *for this user* is worth. A placebo has such a difference too, which selecting by a
ranking model earns by itself; a claim is made net of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from recgen.core.seeding import seed_for
from recgen.metrics.statistics import Estimate, holm, paired_difference

REQUEST = ["user_id", "item_id"]
HEADLINES = ("true_utility_gain", "standardised_gain_judge", "percentile_gain_judge")
"""The metric of the primary contrast: the first that a run has. A truth comes before a judge, and the judge's score before the
place that it gives, which has an end where a score has none (docs/decisions.md); earlier runs have places alone."""
PERSONAL = (
    *HEADLINES,
    "risen_judge",
    "reciprocal_rank_gain_judge",
    "score_gain_judge",
    "delta_r_judge",
    "verifier_score",
    "cps",
    "cpis",
    "cps_held_out",
    "cpis_held_out",
    "topic_precision_style",
)
"""What own and swapped creatives are compared by."""
SWAPPED, PLACEBO, CONTROL = "swapped", "net of placebo", "control"
"""Kinds of contrasts."""


def headline(table: pd.DataFrame) -> str | None:
    """Return the metric of the primary contrast; None where neither truth nor judge has measured anything."""
    return next((key for key in HEADLINES if key in table and table[key].notna().any()), None)


def contrasts(
    generators: Mapping[str, pd.DataFrame],
    swapped: Mapping[str, pd.DataFrame],
    controls: Mapping[str, pd.DataFrame],
    placebo: str,
    run_seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield every contrast of a run as an entry of metrics.json's ``tests.contrasts``.

    Parameters
    ----------
    generators
        The generators' metrics per request: columns user_id, item_id and metrics.
    swapped
        The same of other users' creatives, by the generator (or `placebo`) that drew them; requests without one are absent.
    controls
        The same of the other controls, by name.
    placebo
        The name of the placebo in `controls` and `swapped`.
    run_seed
        Seed of the bootstrap and of the sign flips.

    Yields
    ------
    A paired difference with ``kind`` (`swapped`: own minus another user's; `net of placebo`: that minus the placebo's; `control`:
    own minus a control's) and ``primary``, true for own minus swapped of the first generator by the headline metric.
    """
    first = next(iter(generators))
    for name, table in generators.items():
        if name in swapped:
            leading = headline(table) if name == first else None
            for key in _shared(PERSONAL, table, swapped[name]):
                gaps = _gap(table, swapped[name], key)
                yield _contrast(name, f"swapped.{name}", key, SWAPPED, gaps, run_seed, key == leading)
        for control, shown in controls.items():
            for key in _shared(HEADLINES, table, shown):
                yield _contrast(name, control, key, CONTROL, _gap(table, shown, key), run_seed)
        if placebo in controls and placebo in swapped and name in swapped:
            for key in _shared(HEADLINES, table, swapped[name], controls[placebo], swapped[placebo]):
                own = _gap(table, swapped[name], key)
                net = own.merge(
                    _gap(controls[placebo], swapped[placebo], key), on=REQUEST, suffixes=("", "_b")
                )
                net = net.assign(gap=net["gap"] - net["gap_b"])
                yield _contrast(name, placebo, key, PLACEBO, net, run_seed)


def _shared(keys: Sequence[str], *tables: pd.DataFrame) -> list[str]:
    """Return the metrics that all tables have; one without rows, as of creatives that no other user has, has none."""
    return [key for key in keys if all(key in table for table in tables)]


def _gap(a: pd.DataFrame, b: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return a minus b, request by request, as columns user_id, item_id and gap."""
    both = a[[*REQUEST, key]].merge(b[[*REQUEST, key]], on=REQUEST, suffixes=("", "_b"))
    gap = both[key].to_numpy(dtype=np.float64) - both[f"{key}_b"].to_numpy(dtype=np.float64)
    return both[REQUEST].assign(gap=gap)


def _contrast(
    a: str, b: str, key: str, kind: str, gaps: pd.DataFrame, run_seed: int, primary: bool = False
) -> dict[str, Any]:
    values = gaps["gap"].to_numpy()
    result = paired_difference(
        values, np.zeros(len(values)), gaps["user_id"].to_numpy(), seed_for(run_seed, f"contrast {key}")
    )
    return {**result.as_json(a, b, key), "kind": kind, "primary": primary}


def corrected(tests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return tests with ``p_holm``: the primary one's own p, and for all others theirs corrected for how many they are.

    Examples
    --------
    >>> tests = [{"p": 0.04, "primary": True}, {"p": 0.02}, {"p": 0.03}, {"p": None}]
    >>> [test["p_holm"] for test in corrected(tests)]
    [0.04, 0.04, 0.04, None]
    """
    others = holm([None if test.get("primary") else test["p"] for test in tests])
    return [
        {**test, "p_holm": test["p"] if test.get("primary") else value}
        for test, value in zip(tests, others, strict=True)
    ]


def claims(tests: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return, for each generator, the p-value of "its own creatives beat other users', by more than the placebo's do".

    The claim is of two differences at once, so that its p-value is the larger of theirs (the intersection-union test of Berger,
    1982). That of the generator whose own minus swapped is primary stands as it is; those of the others are corrected for
    their number (Holm).

    Parameters
    ----------
    tests
        The entries of `contrasts`. Of a generator the first headline metric counts that its own minus swapped was measured by.

    Returns
    -------
    None where a generator has no placebo beside it, or either difference has no p-value.

    Examples
    --------
    >>> own = {"kind": SWAPPED, "metric": "percentile_gain_judge", "p": 0.001}
    >>> net = {"kind": PLACEBO, "metric": "percentile_gain_judge", "p": 0.02}
    >>> claims([own | {"a": "a", "primary": True}, own | {"a": "b"}, own | {"a": "c"}, *(net | {"a": a} for a in "abc")])
    {'a': 0.02, 'b': 0.04, 'c': 0.04}
    """
    own: dict[str, Mapping[str, Any]] = {}
    for metric in reversed(HEADLINES):  # the first has the last word
        own |= {test["a"]: test for test in tests if (test["kind"], test["metric"]) == (SWAPPED, metric)}
    net = {(test["a"], test["metric"]): test["p"] for test in tests if test["kind"] == PLACEBO}
    larger = {
        name: None if None in (pair := (test["p"], net.get((name, test["metric"])))) else max(pair)
        for name, test in own.items()
    }
    others = [name for name, test in own.items() if not test.get("primary")]
    return larger | dict(zip(others, holm([larger[name] for name in others]), strict=True))


def agreement(own: pd.DataFrame, swapped: pd.DataFrame) -> dict[str, Any] | None:
    """Return how far judge and truth agree on which of two creatives of an item is the better one for a user.

    Returns
    -------
    An estimate of the correlation, over requests, of own minus swapped by the judge's score and by the truth, with Fisher's
    interval; None where there is no truth.
    """
    keys = ("score_gain_judge", "true_utility_gain")
    if not all(key in own and key in swapped for key in keys):
        return None
    judge, truth = (_gap(own, swapped, key)["gap"].to_numpy() for key in keys)
    return asdict(correlation(judge, truth))


def correlation(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Estimate:
    """Return Pearson's correlation with Fisher's interval; no value where either is constant or fewer than four pairs are known.

    Examples
    --------
    >>> correlation([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]).value
    0.8
    """
    from scipy import stats

    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    known = np.isfinite(first) & np.isfinite(second)
    first, second = first[known], second[known]
    if len(first) < 4 or not np.ptp(first) or not np.ptp(second):
        return Estimate(None, None, None, len(first))
    found = stats.pearsonr(first, second)
    bounds = found.confidence_interval(level)
    return Estimate(round(float(found.statistic), 12), float(bounds.low), float(bounds.high), len(first))
