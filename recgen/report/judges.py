"""What the judges of a run know of users: their ranking, or how they tell likes from dislikes, beside chance and popularity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recgen.metrics.statistics import DRAWS
from recgen.report.text import interval, number, plain

NAMES = {"auc": "AUC", "recall@10": "Recall@10", "ndcg@10": "NDCG@10"}


@dataclass(frozen=True)
class Judge:
    """One judge, by a metric of what it was not trained on.

    Attributes
    ----------
    encoder
        What it sees images through; "" where it is not said.
    metric
        ``auc`` of a judge of likes and dislikes, else ``recall@10`` or ``ndcg@10``.
    value, low, high
        The metric with a 95% interval.
    chance, popularity
        The metric at random, and of a score that knows no user; None where it was not measured.
    held_out
        What it was measured on, in words.
    """

    encoder: str
    metric: str
    value: float
    low: float
    high: float
    chance: float
    popularity: float | None
    held_out: str

    @property
    def knows(self) -> bool:
        """Whether it knows more than chance of what users like."""
        return self.low > self.chance

    @property
    def figures(self) -> str:
        """The metric beside chance and popularity, in a sentence."""
        popular = "" if self.popularity is None else f", by popularity {self._number(self.popularity)}"
        on = f" on {self.held_out}" if self.held_out else ""
        return (
            f"{NAMES[self.metric]}{on} is {self._number(self.value)} ({interval(self.low, self.high, self._digits)}); "
            f"at random it is {self._number(self.chance)}{popular}."
        )

    @property
    def against_popularity(self) -> str:
        """The metric and popularity's."""
        return f"{NAMES[self.metric]} {self._number(self.value)} and {number(self.popularity, self._digits)}"

    @property
    def _digits(self) -> int:
        return 3 if self.metric == "auc" else 4

    def _number(self, value: float) -> str:
        return number(value, self._digits)


def judges(metrics: Mapping[str, Any]) -> list[list[Judge]]:
    """Return each judge by each of its metrics, the first of which is to be shown; nothing where they were not measured."""
    recorded = metrics.get("judges") or [{"auc": (metrics.get("run") or {}).get("judge_auc")}]  # of before
    found = [_by_auc(metrics, each) or _by_ranking(metrics, each) for each in recorded]
    return found if all(found) else []


def cannot_judge(metrics: Mapping[str, Any]) -> bool:
    """Return whether none of the judges knows more than chance of what users like, by any of its metrics.

    Where that was not measured, it is asked of the recommender that was retrained on all likes, on the original images.
    """
    found = judges(metrics)
    if found:
        return not any(by_metric.knows for judge in found for by_metric in judge)
    return ranks_by_chance(metrics)


def ranks_by_chance(metrics: Mapping[str, Any]) -> bool:
    """Return whether the retrained recommender ranks no better than chance on the original images.

    By the interval over draws, from `DRAWS` of them on. Student's t of two draws is 12.7, and their interval holds chance
    whatever the recommender knows: then it is one over users.
    """
    chance = (metrics.get("downstream_baselines") or {}).get("chance") or {}
    own = (metrics.get("downstream") or {}).get("ORI") or {}
    found = [
        (lower_end(own[key], metrics), chance[key])
        for key in ("recall@10", "ndcg@10")
        if key in chance and (own.get(key) or {}).get("value") is not None
    ]
    return bool(found) and all(low <= value for low, value in found)


def lower_end(found: Mapping[str, Any], metrics: Mapping[str, Any]) -> float:
    """Return the lower end of a Recall@10's or NDCG@10's 95% interval: over draws, or over users where there are few draws."""
    value, users = float(found["value"]), (metrics.get("run") or {}).get("users") or 0
    if (found.get("n") or 0) >= DRAWS or not users:
        return value if found.get("low") is None else float(found["low"])
    return wilson(value, users)[0]


def wilson(value: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95% interval of a mean of n values between 0 and 1, of which p (1 - p) is the largest variance.

    >>> [round(end, 4) for end in wilson(0.0, 100)], [round(end, 4) for end in wilson(0.5, 100)]
    ([0.0, 0.037], [0.4038, 0.5962])
    """
    z = 1.96**2 / n
    half = (z * value * (1 - value) + z * z / 4) ** 0.5
    return max(value + z / 2 - half, 0.0) / (1 + z), (value + z / 2 + half) / (1 + z)


def _by_auc(metrics: Mapping[str, Any], judge: Mapping[str, Any]) -> list[Judge]:
    """Return a judge of likes and dislikes by its AUC, whose variance is bounded (Birnbaum and Klose 1957).

    By AUC (1 - AUC) / min(likes, dislikes). Where it is not said how many are held out, a tenth of each is.
    """
    value = judge.get("auc")
    if value is None:
        return []
    if "likes" in judge:
        likes, dislikes = float(judge["likes"]), float(judge["dislikes"])
        words = f"{plain(judge['likes'])} likes and {plain(judge['dislikes'])} dislikes held out"
    else:
        facts = metrics.get("run") or {}
        likes = 0.1 * (facts.get("interactions") or 0)
        dislikes, words = 0.1 * (facts.get("dislikes") or 0) or likes, ""
    half = 1.96 * (value * (1 - value) / max(min(likes, dislikes), 1.0)) ** 0.5
    ends = max(value - half, 0.0), min(value + half, 1.0)
    return [Judge(judge.get("encoder", ""), "auc", value, *ends, 0.5, judge.get("popularity_auc"), words)]


def _by_ranking(metrics: Mapping[str, Any], judge: Mapping[str, Any]) -> list[Judge]:
    """Return a judge that is trained to rank by the ranking of the test likes; nothing where chance is not known."""
    baselines = metrics.get("downstream_baselines") or {}
    chance, popularity = (baselines.get(name) or {} for name in ("chance", "popularity"))
    found = []
    for metric in ("recall@10", "ndcg@10"):
        if judge.get(metric) is not None and chance.get(metric) is not None:
            value, users = float(judge[metric]), int(judge["users"])
            words = f"the test likes of {plain(users)} users"
            ends = wilson(value, users)
            found.append(
                Judge(judge["encoder"], metric, value, *ends, chance[metric], popularity.get(metric), words)
            )
    return found
