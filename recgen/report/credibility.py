"""Whether this run's instruments can be believed: the recommender, the encoder, the training, the judge and the requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recgen.metrics.registry import lookup
from recgen.metrics.statistics import DRAWS
from recgen.report import curves
from recgen.report.answers import out_of_domain
from recgen.report.headline import strangers
from recgen.report.judges import cannot_judge, judges, lower_end, ranks_by_chance
from recgen.report.run_files import RunFiles
from recgen.report.tables import ORIGINAL, against_original
from recgen.report.text import interval, listed, number
from recgen.report.verdicts import RANKING, Verdict

BETWEEN = "better than chance, not than popularity"
IMAGELESS = {"SHUFFLED": "with images dealt to other items", "NONE": "with one image for all items"}


@dataclass(frozen=True)
class Check:
    """A question about an instrument, its answer in a word and its colour, and the figures behind it."""

    question: str
    verdict: Verdict
    label: str
    sentence: str


def checks(run: RunFiles) -> list[Check]:
    """Return what a reader should know of the instruments before believing any verdict; what was not measured is said."""
    return [
        *_judges(run),
        *_ranks(run),
        _gains_from_images(run),
        _domain(run),
        *_training(run),
        *_judge_and_truth(run),
        *_vision_judge(run),
        _requests(run),
        _controls(run),
    ]


def banner(run: RunFiles) -> str:
    """Return what stands above all verdicts of a run whose judges know no better than chance what users like; "" for another."""
    if not cannot_judge(run.metrics):
        return ""
    return (
        "This recommender cannot judge: it knows no better than chance what users like, so what it says of images is noise. No "
        "verdict of this "
        "report that rests on it means anything."
    )


def _judges(run: RunFiles) -> Iterator[Check]:
    """What each judge knows of users; judges that see through different encoders may differ in it."""
    found = judges(run.metrics)
    for shown, *others in found:
        who = f"the judge that sees through {shown.encoder}" if len(found) > 1 else "the judge"
        sentence = shown.figures
        if shown.metric == "auc":
            question = f"Does {who} know what users like?"
            sentence += " It is not trained to rank a catalogue, so Recall@10 says little of it."
        else:
            question = f"Does {who} rank better than chance and than popularity?"
            if not run.facts.get("same_judge"):
                sentence += " It has learned from half of the likes; popularity is counted on all."
        if not any(by_metric.knows for by_metric in (shown, *others)):
            yield Check(question, "bad", "no better than chance", sentence)
        elif shown.popularity is not None and shown.low <= shown.popularity:
            yield Check(question, "unclear", BETWEEN, sentence)
        else:
            yield Check(question, "good", "yes", sentence)


def _ranks(run: RunFiles) -> Iterator[Check]:
    """Whether the retrained recommender ranks at all; not asked of a model of likes and dislikes, which is not trained to."""
    retrained = (run.facts.get("downstream") or {}).get("model", run.facts.get("judge"))
    if retrained == run.facts.get("judge") and any(judge[0].metric == "auc" for judge in judges(run.metrics)):
        return
    question = "Does the retrained recommender rank better than chance and than popularity?"
    baselines = run.metrics.get("downstream_baselines") or {}
    own = (run.metrics.get("downstream") or {}).get(ORIGINAL, {}).get("recall@10")
    chance, popular = ((baselines.get(name) or {}).get("recall@10") for name in ("chance", "popularity"))
    if own is None or own["value"] is None or chance is None:
        yield Check(question, "unclear", "not measured", "The downstream stage measures it.")
        return
    sentence = (
        f"Its Recall@10 is {number(own['value'], 4)} ({_spread(own)}); at random it is {number(chance, 4)}"
        + ("." if popular is None else f", by popularity {number(popular, 4)}.")
    )
    if ranks_by_chance(run.metrics):
        yield Check(question, "bad", "no better than chance", sentence)
    elif popular is not None and lower_end(own, run.metrics) <= popular:
        yield Check(question, "unclear", BETWEEN, sentence)
    else:
        yield Check(question, "good", "yes", sentence)


def _spread(found: Mapping[str, Any]) -> str:
    """Return an interval over draws, or how few they are where it would say nothing."""
    draws = found.get("n") or 0
    few = "one draw" if draws == 1 else f"{draws} draws, too few for an interval"
    return interval(found["low"], found["high"], 4) if draws >= DRAWS else few


def _gains_from_images(run: RunFiles) -> Check:
    question = "Does the retrained recommender gain anything from images on these data?"
    found = {
        name: test
        for name in IMAGELESS
        if (test := against_original(run.metrics, name).get(RANKING)) and test["difference"] is not None
    }
    if not found:
        return Check(
            question, "unclear", "not measured", "A retraining with shuffled images and with none would say."
        )
    sentence = " ".join(
        f"{lookup(RANKING).title} with the original images minus {IMAGELESS[name]}: "
        f"{number(-test['difference'], 4, signed=True)} "
        f"({_spread({'low': _minus(test['high']), 'high': _minus(test['low']), 'n': test['n']})})."
        for name, test in found.items()
    )
    if any(test["high"] is None or test["n"] < DRAWS for test in found.values()):
        return Check(question, "unclear", "too few trainings to tell", sentence)
    if all(test["high"] < 0 for test in found.values()):
        return Check(question, "good", "yes", sentence)
    return Check(question, "bad", "not shown", f"{sentence} Where nothing is lost, no creative can win.")


def _domain(run: RunFiles) -> Check:
    question = "Have encoder and backbone seen images like these?"
    rendered = bool(run.facts.get("rendered", True))
    found = strangers(run.facts)
    if not found:
        known = (
            "they are the renderer's, on which the demo models were trained"
            if rendered
            else "none is a demo model"
        )
        return Check(question, "good", "yes", f"As far as the configuration says: {known}.")
    named = listed([f"{name} ({part})" for part, name in found.items()])
    sentence = (
        f"{named} {'know' if len(found) > 1 else 'knows'} the renderer's images alone, and these are others."
    )
    return Check(question, "bad", "no" if out_of_domain(run) else "not all", sentence)


def _training(run: RunFiles) -> Iterator[Check]:
    """Whether training moved anything: the best held-out reward may be the one before it."""
    for panel in curves.found(run):
        points = panel.held_out_reward
        if len(points) < 2:
            continue
        question = f"Did training move {panel.who}?"
        step, best = max(points, key=lambda point: point[1])
        first = points[0]
        sentence = (
            f"The reward of users whom training never saw is {number(first[1], 4, signed=True)} at step "
            f"{first[0]:,.0f} and at best "
            f"{number(best, 4, signed=True)} at step {step:,.0f}."
        )
        if step == first[0]:
            yield Check(
                question,
                "bad",
                "no: best before any training",
                sentence + " What is judged here is the untrained generator.",
            )
        else:
            yield Check(question, "good", "yes", sentence)


def _judge_and_truth(run: RunFiles) -> Iterator[Check]:
    """How far the judge can be believed, where the truth is known."""
    for generator, found in (run.metrics.get("judge_and_truth") or {}).items():
        if not found or found["value"] is None:
            continue
        question = f"Do judge and truth prefer the same images of {generator}?"
        sentence = (
            "Over the requests, own minus another user's by the judge's score and by the true taste correlate by "
            f"{number(found['value'], 2)} (95% interval {interval(found['low'], found['high'], 2)}; n\u00a0=\u00a0{found['n']})."
        )
        if found["low"] > 0.5:
            yield Check(question, "good", "mostly", sentence)
        elif found["low"] > 0:
            yield Check(question, "unclear", "somewhat", sentence)
        else:
            yield Check(question, "bad", "not shown", sentence)


def _vision_judge(run: RunFiles) -> Iterator[Check]:
    """Whether a vision-language model answers by what it is shown, or by which of two images comes first."""
    for generator, asked in (run.metrics.get("vlm") or {}).items():
        question = f"Does the vision-language model choose by what it sees of {generator}?"
        unread = f"{asked['unread']:,} of {asked['answers']:,} answers could not be read."
        lean = run.metrics["creatives"][generator]["vlm_first_place"]
        if lean["low"] is None:
            yield Check(question, "unclear", "too few answers to tell", unread)
            continue
        sentence = (
            f"It named the image shown first in {number(lean['value'], 2)} of its answers "
            f"({interval(lean['low'], lean['high'], 2)}; 0.5 without a bias). As each pair is shown in both orders, a bias makes "
            f"ties, not winners. {unread}"
        )
        if lean["low"] <= 0.5 <= lean["high"]:
            yield Check(question, "good", "no bias to a place seen", sentence)
        elif 0.1 < lean["value"] < 0.9:
            yield Check(question, "unclear", "in part: it leans to a place", sentence)
        else:
            yield Check(question, "bad", "no: it names a place", sentence)


def _requests(run: RunFiles) -> Check:
    question = "Were the items drawn blind?"
    if run.facts.get("protocol") == "blind":
        return Check(
            question,
            "good",
            "yes",
            "Items come from all heights of popularity, and each was asked about by several users who had not met it, "
            "whether or not "
            "they would like it.",
        )
    return Check(
        question,
        "bad",
        "no: users' last likes",
        "Each user's image is of an item that the user went on to like (the papers' protocol). Such a run cannot show "
        "that images "
        "help with items whose users are not known, nor that they are personal where each item has one user: touching "
        "liked items "
        "alone raises Recall, whatever the images show. Set recgen.requests to protocol: blind.",
    )


def _controls(run: RunFiles) -> Check:
    question = "Are the controls there that a claim needs?"
    found: dict[str, Any] = run.metrics.get("controls") or {}
    absent = [
        what
        for what, here in (
            ("swapped", any(name.startswith("swapped.") for name in found)),
            ("placebo", "control.placebo" in found),
        )
        if not here
    ]
    if not absent:
        return Check(
            question,
            "good",
            "yes",
            "Other users' creatives and the placebo were measured beside every generator.",
        )
    return Check(
        question,
        "unclear",
        f"without {' and '.join(absent)}",
        f"No gain is claimed without them: add {' and '.join(absent)} to recgen.controls.",
    )


def _minus(value: float | None) -> float | None:
    return None if value is None else -value
