"""What the contrasts with controls allow to be said, and no more.

Only own creative minus another user's of the same item can show that drawing for a user is worth something, and only net of the
placebo. Whatever lifts any item for anybody, such as one good poster or the items' own images, has a difference of zero there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from recgen.metrics.contrasts import HEADLINES, PLACEBO, SWAPPED, claims
from recgen.metrics.registry import lookup
from recgen.metrics.statistics import DRAWS, SIGNIFICANT, UNITS
from recgen.report.judges import cannot_judge
from recgen.report.tables import ARMS, against_original, downstream_contrasts
from recgen.report.text import interval, number, p_value, plain

Verdict = Literal["good", "bad", "unclear"]
MANY = 1_000_000
RANKING = "ndcg@10"
"""The metric of the verdict on ranking."""


@dataclass(frozen=True)
class Line:
    """What one generator's numbers say: a verdict (its colour), the word for it, the sentences behind it."""

    generator: str
    verdict: Verdict
    label: str
    sentences: list[str]


@dataclass(frozen=True)
class Answer:
    """A question, how it was asked of the data, and a line per generator (or a reason why there is none)."""

    question: str
    method: str
    lines: list[Line] = field(default_factory=list)
    missing: str = ""


def contrast(
    metrics: Mapping[str, Any], generator: str, kind: str, metric: str | None = None
) -> dict[str, Any] | None:
    """Return a generator's contrast of a kind by a metric, else by the first headline that was measured; None without one."""
    found = {
        each["metric"]: each
        for each in metrics.get("tests", {}).get("contrasts", [])
        if each["a"] == generator and each["kind"] == kind and each["difference"] is not None
    }
    keys = HEADLINES if metric is None else (metric,)
    return next((found[key] for key in keys if key in found), None)


def personal(metrics: Mapping[str, Any], generator: str) -> tuple[Verdict, str]:
    """Return the verdict on whether a user's own creative beats another user's, and its words."""
    own = contrast(metrics, generator, SWAPPED)
    if own is None:
        return "unclear", "not measured"
    if own["low"] is None or own["p"] is None:
        return "unclear", "too few to tell"
    if own["high"] < 0 and own.get("p_holm", own["p"]) <= SIGNIFICANT:
        return "bad", "no: another user's does better"
    if own["low"] <= 0 or own["p"] > SIGNIFICANT:
        return "unclear", "cannot tell"
    net = contrast(metrics, generator, PLACEBO, own["metric"])
    if net is None:
        return "unclear", "cannot tell without a placebo"
    if net["low"] is None or net["low"] <= 0 or net["p"] is None or net["p"] > SIGNIFICANT:
        return "unclear", "cannot tell: selecting noises earns as much"
    p = claims(metrics["tests"]["contrasts"])[generator]
    if p is None or p > SIGNIFICANT:
        return "unclear", "cannot tell among so many generators"
    if own["metric"].endswith("_judge") and cannot_judge(metrics):
        return "unclear", "cannot tell: this recommender cannot judge"
    return "good", "yes"


def ranks_better(metrics: Mapping[str, Any], generator: str) -> tuple[Verdict, str]:
    """Return the verdict on whether the retrained recommender ranks better because of a generator's images, and its words.

    It is "yes" only where the creatives made for an item's audience beat the original images, the same items' creatives for other
    users, other items' creatives and random images, each with an interval above zero, in a recommender that gains from images.
    """
    found = downstream_contrasts(metrics, generator, RANKING)
    own = found.get(ARMS["ORI"])
    if own is None:
        return "unclear", "not measured"
    if not {ARMS[name] for name in ("swapped.", "dealt.", "RANDOM")} <= set(found):  # a run of before
        return "unclear", "cannot tell without its controls"
    if own["n"] < UNITS or any(test["low"] is None for test in found.values()):
        return "unclear", "too few draws to tell"
    if own["high"] < 0:
        return "bad", "no: it gets worse"
    if own["low"] <= 0:
        return "unclear", "cannot tell"
    if any(found[other]["low"] <= 0 for other in found):
        return "unclear", "better, and so it is with images of others: cannot tell"
    if gains_from_images(metrics) is not True:
        return "unclear", "cannot tell: this recommender gains nothing from images"
    return "good", "yes"


def gains_from_images(metrics: Mapping[str, Any]) -> bool | None:
    """Return whether the recommender ranks better with its images than with shuffled ones and with none; None if unknown."""
    tests = [against_original(metrics, name).get(RANKING) for name in ("SHUFFLED", "NONE")]
    bounds = [
        test["high"] for test in tests if test is not None and test["high"] is not None and test["n"] >= DRAWS
    ]
    return all(bound < 0 for bound in bounds) if len(bounds) == len(tests) else None


def personal_line(metrics: Mapping[str, Any], generator: str) -> Line | None:
    """Return a generator's line of the report's first question; None where it was not measured."""
    own = contrast(metrics, generator, SWAPPED)
    if own is None:
        return None
    verdict, label = personal(metrics, generator)
    sentences = [f"Own minus another user's: {words(own)}."]
    for metric, said in (
        ("standardised_gain_judge", "By the judge"),
        ("percentile_gain_judge", "In places of the judge's list"),
    ):
        judged = contrast(metrics, generator, SWAPPED, metric)
        if judged is not None and judged["metric"] != own["metric"]:
            sentences.append(f"{said}: {words(judged)}.")
    net = contrast(metrics, generator, PLACEBO, own["metric"])
    if net is not None:
        sentences.append(f"Net of the placebo: {words(net)}.")
        sentences += _claimed(metrics, generator, own)
    elif label == "cannot tell without a placebo":
        sentences.append(
            "A generator that only selects among noises by a ranking model has such a difference too: add placebo to "
            "recgen.controls, and the report says what remains."
        )
    if verdict == "unclear":
        sentences += power(net if net is not None and label.startswith("cannot tell: selecting") else own)
    return Line(generator, verdict, label, sentences)


def _claimed(metrics: Mapping[str, Any], generator: str, own: Mapping[str, Any]) -> list[str]:
    """The p-value that the verdict rests on."""
    found = claims(metrics["tests"]["contrasts"])
    p = found[generator]
    if p is None:
        return []
    others = sum(name != generator for name in found)
    corrected = "" if own.get("primary") or not others else ", corrected for the number of generators"
    return [f"Both at once: {p_value(p)}{corrected}."]


def words(test: Mapping[str, Any]) -> str:
    """Return a paired difference in words."""
    metric = lookup(test["metric"])
    return (
        f"{metric.title} {number(test['difference'], metric.digits, signed=True)} "
        f"(95% interval {interval(test['low'], test['high'], metric.digits)}; {p_value(test['p'])}; "
        f"n\u00a0=\u00a0{plain(test['n'])})"
    )


def power(test: Mapping[str, Any]) -> list[str]:
    """Return what a run of this size could have found, and how large one would have to be; nothing where that is not known."""
    if test.get("detectable") is None:
        return []
    metric = lookup(test["metric"])
    size = f"{plain(test['n'])} requests"
    found = f"{size} find a difference of {number(test['detectable'], metric.digits)} in four of five runs"
    needed = test.get("needed")
    if needed is None:
        return [f"{found}."]
    if needed <= test["n"]:
        return [f"{found}; the one seen is no smaller."]
    more = "more than a million" if needed > MANY else f"about {plain(rounded(needed))}"
    return [f"{found}; {more} would tell one as small as the one seen."]


def rounded(count: int) -> int:
    """Round to two digits: a number of requests is an estimate of an estimate."""
    digits = max(len(str(count)) - 2, 0)
    return round(count, -digits)
