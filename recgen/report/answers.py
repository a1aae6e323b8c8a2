"""The plain-language answers: each with its number, its interval and no more certainty than it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from recgen.core.seeding import seed_for
from recgen.metrics.registry import lookup
from recgen.metrics.statistics import bootstrap_mean
from recgen.report.run_files import RunFiles
from recgen.report.tables import ORIGINAL, against_original
from recgen.report.text import interval, number, p_value, plain, share

Verdict = Literal["good", "bad", "unclear"]
SIGNIFICANT = 0.05


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


def answers(run: RunFiles) -> list[Answer]:
    """Return the report's questions in the order a reader asks them."""
    return [_rise(run), _recognisable(run), _made_for_the_user(run), _ranking(run), _gap(run)]


def _rise(run: RunFiles) -> Answer:
    lines = []
    for generator, measured in run.metrics["creatives"].items():
        estimate = measured.get("delta_r_judge")
        if estimate and estimate["value"] is not None:
            verdict, label = _sign(estimate, "yes", "no: it falls")
            first = _with_interval("delta_r_judge", estimate, "a rise from a fall")
            lines.append(Line(generator, verdict, label, [first, *_places(run, generator)]))
    return Answer(
        "Does the item rise in the user's list?",
        f"The judge, {_who_judges(run)}, ranks all items for the user, once with the item's "
        "own image and once with the creative. ΔR is the change of place, relative to the place before: "
        "+0.5 is from 10th to "
        "5th. A fall can count far more than a rise (from 1st to 51st is −50), so a few falls can outweigh "
        "many rises.",
        lines,
        "" if lines else "Not measured in this run.",
    )


def _who_judges(run: RunFiles) -> str:
    if _same_judge(run):
        return "in this run the very model that rewards the generators (same_judge)"
    return "a recommender that took no part in making the images"


def _same_judge(run: RunFiles) -> bool:
    return bool(run.facts.get("same_judge"))


def _places(run: RunFiles, generator: str) -> list[str]:
    """How many items rise, and the typical place; part of the answer because the mean of ΔR hides both."""
    rows = run.per_request[run.per_request["generator"] == generator]
    if rows.empty or not {"rank_original_judge", "rank_creative_judge"} <= set(rows):
        return []
    before, after = rows["rank_original_judge"].to_numpy(), rows["rank_creative_judge"].to_numpy()
    rise, fall = float(np.mean(after < before)), float(np.mean(after > before))
    typical = [f"{np.median(ranks) + 1:,.0f}" for ranks in (before, after)]
    return [
        f"{share(rise)} of the items rise, {share(fall)} fall, the rest stay. "
        f"The typical (median) place goes from {typical[0]} to {typical[1]} of {plain(len(run.items))}."
    ]


def _recognisable(run: RunFiles) -> Answer:
    lines = [line for generator in run.generators if (line := _recognisable_line(run, generator))]
    truth = any("content_preservation" in measured for measured in run.metrics["creatives"].values())
    return Answer(
        "Is the item still recognisable?",
        "CLIP, a network that has learned which images and words belong together, compares the creative "
        "with the item's own "
        "image: 100 is the same image. What the average item of the catalogue scores is the yardstick "
        "for chance."
        + (
            " The data is simulated, so whether a creative still shows its item's content is known."
            if truth
            else ""
        ),
        lines,
        _out_of_its_depth(run) if lines else "Not measured in this run.",
    )


def _out_of_its_depth(run: RunFiles) -> str:
    """What a reader must know of likeness measured by a model that has seen no such images; "" where it has."""
    if run.facts.get("encoder") != "demo-clip" or run.facts.get("rendered", True):
        return ""
    return (
        "Read this with care: demo-clip has only ever seen the renderer's posters, and these images are others. "
        "Set recgen.encoder to a CLIP model of real images, such as ViT-H-14, for a likeness that means something."
    )


def _recognisable_line(run: RunFiles, generator: str) -> Line | None:
    measured = run.metrics["creatives"][generator]
    kept, likeness = (measured.get(key) or {"value": None} for key in ("content_preservation", "cis"))
    sentences, verdict, label = [], None, ""
    if kept["value"] is not None:
        bounds = "" if kept["low"] is None else f" ({share(kept['low'])} to {share(kept['high'])})"
        sentences.append(f"{share(kept['value'])}{bounds} of the creatives still show what their item is.")
        shifted = {**kept, **{end: None if kept[end] is None else kept[end] - 0.5 for end in ("low", "high")}}
        verdict, label = _sign(shifted, "mostly", "mostly not", "about half")
    if likeness["value"] is not None:
        sentences.append(f"Likeness to its own image (CIS): {_numbers('cis', likeness)}.")
        yardstick = run.likeness_beyond_chance(generator)
        if yardstick:
            chance, beyond, users = yardstick
            more = bootstrap_mean(beyond, users, seed_for(run.seed, "report", "likeness")).as_json()
            sentences.append(
                f"The average item's image scores {number(chance, 1)}, which leaves "
                f"{number(more['value'], 1, signed=True)} "
                f"({interval(more['low'], more['high'], 1)}) for its own."
            )
            if verdict is None:
                verdict, label = _sign(more, "yes, beyond chance", "no", "not beyond chance")
    if not sentences:
        return None
    return Line(generator, verdict or "unclear", label or "see the number", sentences)


def _made_for_the_user(run: RunFiles) -> Answer:
    lines = []
    for generator, test in run.metrics.get("tests", {}).get("permutation", {}).items():
        shown = test["p"] <= SIGNIFICANT and test["sd"] > 0
        lines.append(
            Line(
                generator,
                "good" if shown else "unclear",
                "yes" if shown else "not shown",
                [
                    f"Chance of a like: {number(test['observed'])} for the user it was made for, "
                    f"{number(test['null_mean'])} when dealt at random; "
                    f"{number(test['sd'], 1)} standard deviations apart, {p_value(test['p'])}."
                ],
            )
        )
    return Answer(
        "Was it made for this user, or would anyone's image do?",
        "The verifier, a model of likes and dislikes, scores every creative for its own user; then the "
        "creatives are dealt out "
        "to users at random, a thousand times, and scored again (permutation test). A creative that shows its item shows "
        "something the user went on to like, so part of the difference is the item's: a generator that knows nothing of the "
        "user, such as stable_diffusion or noue, says how much.",
        lines,
        "" if lines else "Not measured in this run.",
    )


def _ranking(run: RunFiles) -> Answer:
    lines = []
    for generator in (name for name in run.metrics.get("downstream", {}) if name in run.metrics["creatives"]):
        tests = against_original(run.metrics, generator)
        leading = tests.get("ndcg@10") or next(iter(tests.values()), None)
        if leading is not None and leading["difference"] is not None:
            verdict, label = _sign(leading, "yes", "no: it gets worse")
            lines.append(Line(generator, verdict, label, [_change(run, generator, key) for key in tests]))
    return Answer(
        "Does the recommender rank better with these images?",
        "The judge's model is trained anew with the creatives mixed into the items' images, several times "
        "with different seeds, and tested beside the same training with the original images "
        f"({ORIGINAL}). Intervals are over the seeds. “Own creative” is the other way to use them: nothing "
        "is trained, and each user's reference alone shows the creative made for that user.",
        lines,
        ""
        if lines
        else "Not measured in this run: it has no downstream stage, or only one source of images.",
    )


def _change(run: RunFiles, generator: str, key: str) -> str:
    metric, test = lookup(key), against_original(run.metrics, generator)[key]
    before, after = (run.metrics["downstream"][source][key]["value"] for source in (ORIGINAL, generator))
    return (
        f"{metric.title}: {number(before, metric.digits)} to {number(after, metric.digits)}, a difference of "
        f"{number(test['difference'], metric.digits, signed=True)} "
        f"({interval(test['low'], test['high'], metric.digits)}; "
        f"{p_value(test['p'])}; n\u00a0=\u00a0{test['n']}\u00a0seeds)."
    )


def _gap(run: RunFiles) -> Answer:
    question = "Does the gain hold for a model the generator has never met?"
    method = (
        "A generator may learn the quirks of the model that rewards it. So ΔR is measured twice: by that "
        "reward model, and by the judge, which was trained on other interactions and with another seed. The "
        "over-optimisation gap is the first minus the second. Above zero, that part of the gain exists in the "
        "eyes of the reward model only; around zero, the gain carries over to a model that took no part. What "
        "both models have wrong alike, no gap shows."
    )
    if _same_judge(run):
        return Answer(
            question,
            method,
            missing="It cannot be measured in this run. Reward and judge are one model (same_judge), so the gap is "
            "zero by construction, whatever the generator has learned; that is not a measured gap of zero. A run "
            "without same_judge measures it.",
        )
    lines = []
    for generator, measured in run.metrics["creatives"].items():
        gap, reward, judge = (
            measured.get(key) for key in ("over_optimisation_gap", "delta_r_reward", "delta_r_judge")
        )
        if gap and reward and judge and gap["value"] is not None:
            against = {**gap, "low": _minus(gap["high"]), "high": _minus(gap["low"])}
            verdict, label = _sign(against, "yes", "not fully", "no sign of a gap")
            both = [number(estimate["value"], signed=True) for estimate in (reward, judge)]
            first = f"ΔR is {both[0]} by the reward and {both[1]} by the judge."
            lines.append(
                Line(
                    generator,
                    verdict,
                    label,
                    [first, _with_interval("over_optimisation_gap", gap, "a gap from none")],
                )
            )
    return Answer(question, method, lines, "" if lines else "Not measured in this run.")


def _sign(
    estimate: dict[str, Any], above: str, below: str, neither: str = "cannot tell"
) -> tuple[Verdict, str]:
    """Verdict and word for an interval that lies above zero, below zero, or across it."""
    low, high = estimate["low"], estimate["high"]
    if low is None or high is None:
        return "unclear", "too few to tell"
    if low > 0:
        return "good", above
    return ("bad", below) if high < 0 else ("unclear", neither)


def _with_interval(key: str, estimate: dict[str, Any], apart: str) -> str:
    """The number with its interval, and what the interval cannot tell apart when it includes zero."""
    low, high = estimate["low"], estimate["high"]
    sentence = (
        f"{lookup(key).title[:1].upper()}{lookup(key).title[1:]}: {_numbers(key, estimate, signed=True)}."
    )
    if low is not None and high is not None and low <= 0 <= high:
        sentence += f" The interval includes zero: this run cannot tell {apart}."
    return sentence


def _numbers(key: str, estimate: dict[str, Any], signed: bool = False) -> str:
    digits = lookup(key).digits
    bounds = interval(estimate["low"], estimate["high"], digits)
    value = number(estimate["value"], digits, signed)
    return f"{value} (95% interval {bounds}; n\u00a0=\u00a0{plain(estimate['n'])})"


def _minus(value: float | None) -> float | None:
    return None if value is None else -value
