"""What a run says in a few lines: the answer to its main question, and what stands in the way of believing it.

Everything here comes from metrics.json alone, so that the terminal says what the report says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from recgen.metrics.contrasts import SWAPPED
from recgen.report.judges import cannot_judge, judges, lower_end
from recgen.report.text import interval, listed, number, plain
from recgen.report.verdicts import (
    MANY,
    Line,
    Verdict,
    contrast,
    gains_from_images,
    personal,
    ranks_better,
    rounded,
)

_SAID = {
    "true_utility_gain": (
        1.0,
        2,
        "the user's own image instead of another user's adds {} log-odds of a click by the user's true taste",
    ),
    "standardised_gain_judge": (
        1.0,
        2,
        "with the user's own image instead of another user's the judge's score of the item rises by {} standard deviations of "
        "the user's scores",
    ),
    "percentile_gain_judge": (
        100.0,
        1,
        "with the user's own image instead of another user's the item rises by {} percentiles of the judge's list",
    ),
}
"""Of the metrics that a claim is made by: what a value is multiplied by, its decimals, and a sentence around it."""
_OVERALL: dict[Verdict, str] = {
    "good": "Yes: an image made for a user is better for that user than one made for another user",
    "bad": "No: an image made for another user does better than the user's own",
    "unclear": "This run cannot tell whether an image made for a user is better for that user than one made for another user",
}


@dataclass(frozen=True)
class Group:
    """Generators with the same verdict on a question."""

    verdict: Verdict
    label: str
    generators: str


@dataclass(frozen=True)
class Headline:
    """The main answer, its colour, and what limits it and all others."""

    verdict: Verdict
    sentences: list[str]
    limits: list[str]


def headline(metrics: Mapping[str, Any]) -> Headline:
    """Return what a run says in a few lines.

    Parameters
    ----------
    metrics
        What metrics.json holds.
    """
    found = {name: personal(metrics, name)[0] for name in metrics["creatives"]}
    said: tuple[Verdict, ...] = ("good", "bad", "unclear")
    overall = next(each for each in said if each in found.values())
    names = [name for name, verdict in found.items() if verdict == overall]
    return Headline(overall, [f"{_OVERALL[overall]}.", *_figures(metrics, names, overall)], limits(metrics))


def _figures(metrics: Mapping[str, Any], names: list[str], verdict: Verdict) -> list[str]:
    """Return the figures of the first generator that the answer is about, and who else it is about."""
    tests = {name: test for name in names if (test := contrast(metrics, name, SWAPPED)) is not None}
    if not tests:
        return ["It has no images of other users to compare with (the control swapped)."]
    name, test = next(iter(tests.items()))
    beyond = ", and more than a placebo" if verdict == "good" else ""
    others = f"; likewise {listed(list(tests)[1:])}" if len(tests) > 1 and verdict != "unclear" else ""
    told = [f"{name}: {difference(test)}{_places(metrics, name, test)}{beyond}{others}."]
    needed = test.get("needed")
    if verdict == "unclear" and needed is not None and needed > test["n"]:
        size = "more than a million" if needed > MANY else f"about {plain(rounded(needed))}"
        told.append(
            f"To tell a difference as small as this takes {size} requests; here are {plain(test['n'])}."
        )
    return told


def difference(test: Mapping[str, Any]) -> str:
    """Return in words that need no table what a user's own image is worth more than another user's, with its interval."""
    factor, digits, sentence = _SAID[test["metric"]]
    low, high = (None if test[end] is None else factor * test[end] for end in ("low", "high"))
    value = number(factor * test["difference"], digits, signed=True)
    return f"{sentence.format(value)} (95% interval {interval(low, high, digits)})"


def _places(metrics: Mapping[str, Any], generator: str, test: Mapping[str, Any]) -> str:
    """Return what a difference in the judge's scores is in its list, which everybody can picture."""
    moved = contrast(metrics, generator, SWAPPED, "percentile_gain_judge")
    if test["metric"] != "standardised_gain_judge" or moved is None:
        return ""
    return f", {number(100 * moved['difference'], 1, signed=True)} percentiles of its list"


def groups(lines: Iterable[Line]) -> list[Group]:
    """Return the lines of an answer by their verdicts, in the order in which they come."""
    found: dict[tuple[Verdict, str], list[str]] = {}
    for line in lines:
        found.setdefault((line.verdict, line.label), []).append(line.generator)
    return [Group(verdict, label, listed(names)) for (verdict, label), names in found.items()]


def verdicts(metrics: Mapping[str, Any]) -> dict[str, list[Group]]:
    """Return the verdicts that need nothing but metrics.json, by their questions."""
    asked = {"Better for its own user": personal, "The recommender ranks better with them": ranks_better}
    return {
        question: groups(Line(name, *judged(metrics, name), []) for name in metrics["creatives"])
        for question, judged in asked.items()
    }


def limits(metrics: Mapping[str, Any]) -> list[str]:
    """Return what keeps the verdicts from meaning more, the gravest first."""
    return [
        sentence
        for sentence in (_strangers(metrics), _ranker(metrics), _images(metrics), _truth(metrics))
        if sentence
    ]


def strangers(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the demo models that are shown images other than the renderer's, by their part: encoder, backbone."""
    if facts.get("rendered", True):
        return {}
    named = {part: str(facts.get(part, "")) for part in ("encoder", "backbone")}
    return {part: name for part, name in named.items() if name.startswith("demo-")}


def _strangers(metrics: Mapping[str, Any]) -> str:
    found = strangers(metrics.get("run") or {})
    told = []
    if "backbone" in found:
        told.append(
            f"The images are drawn by {found['backbone']}, which can draw only the symbols of recgen's renderer: "
            "they say nothing of what a diffusion model of photographs would draw."
        )
    if "encoder" in found:
        told.append(
            f"Recommender and metrics look at your images through {found['encoder']}, which has seen none like them."
        )
    keys = listed([f"recgen.{part}" for part in ("encoder", "backbone") if part in found])
    return " ".join([*told, f"Set {keys}."]) if told else ""


def _ranker(metrics: Mapping[str, Any]) -> str:
    """Whether what judges is any good; what is no better than chance has a banner of its own."""
    if cannot_judge(metrics):
        return ""
    shown = [by_metric for by_metric, *_ in judges(metrics)]
    weak = [judge for judge in shown if judge.popularity is not None and judge.low <= judge.popularity]
    if weak:
        who = "The judge" if len(shown) == 1 else f"The judge that sees through {weak[0].encoder}"
        return (
            f"{who} is not shown to know more of what users like than popularity does ({weak[0].against_popularity}), so its "
            "opinion of an image is weak evidence."
        )
    return "" if shown else _recommender(metrics)


def _recommender(metrics: Mapping[str, Any]) -> str:
    """Whether the retrained recommender is any good, which stands for judges that were not measured."""
    own = (metrics.get("downstream") or {}).get("ORI", {}).get("recall@10")
    popular = ((metrics.get("downstream_baselines") or {}).get("popularity") or {}).get("recall@10")
    if own is None or own["value"] is None or popular is None or lower_end(own, metrics) > popular:
        return ""
    return (
        f"The recommender is not shown to rank better than popularity does (Recall@10 {number(own['value'], 4)} and "
        f"{number(popular, 4)}), so its opinion of an image is weak evidence."
    )


def _images(metrics: Mapping[str, Any]) -> str:
    if gains_from_images(metrics) is not False:
        return ""
    return (
        "The recommender is not shown to gain from images on these data; where it gains nothing from them, no image can make it "
        "rank better."
    )


def _truth(metrics: Mapping[str, Any]) -> str:
    """Whose opinion “better” is; nothing of made-up users is known of people."""
    if any("true_utility_gain" in found for found in metrics["creatives"].values()):
        return "The users' taste in images is simulated, so that the truth is known; it does not follow that people gain as much."
    return "Nobody's true taste is known here, and nobody was asked: “better” is what a recommender says that knows the log."
