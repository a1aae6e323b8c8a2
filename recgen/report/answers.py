"""The plain-language answers: each with its number, its interval and no more certainty than it has."""

from __future__ import annotations

from typing import Any

import numpy as np

from recgen.core.seeding import seed_for
from recgen.metrics.contrasts import PLACEBO
from recgen.metrics.registry import lookup
from recgen.metrics.statistics import SIGNIFICANT, bootstrap_mean
from recgen.report.run_files import RunFiles
from recgen.report.tables import bounds_of, downstream_contrasts
from recgen.report.text import interval, number, p_value, plain, share
from recgen.report.verdicts import (
    RANKING,
    Answer,
    Line,
    Verdict,
    contrast,
    personal,
    personal_line,
    ranks_better,
)

SAME_IMAGE = 99.9
"""Likeness (CIS) from which on a creative is the item's own image."""


def answers(run: RunFiles) -> list[Answer]:
    """Return the report's questions in the order a reader asks them."""
    return [_personal(run), _rise(run), _recognisable(run), _made_for_the_user(run), _ranking(run), _gap(run)]


def _personal(run: RunFiles) -> Answer:
    lines = [line for name in run.generators if (line := personal_line(run.metrics, name))]
    truth = "true_utility_gain" in next(iter(run.metrics["creatives"].values()))
    by = "by the simulated users' true taste" if truth else f"by the judge, {_who_judges(run)}"
    return Answer(
        "Is a user's own image better for that user than another user's?",
        f"For each request the same generator's image of the same item for another user is measured as well, {by}. What lifts "
        "an item for anybody, such as one good poster, has a difference of zero. A placebo, the best by the reward of "
        f"{run.placebo_noises} noises "
        "under one prompt that knows nothing of the user, says what selecting by a ranking model earns by itself; only what "
        "remains beyond it counts: both differences have to be above zero at once (the larger of their two p-values is the "
        "claim's). The first generator's claim is the one primary test of this report; those of the others are corrected for "
        "their number (Holm).",
        lines,
        ""
        if lines
        else "Not measured in this run: it has no creatives of other users (the control swapped), so nothing here can show that "
        "an image is personal.",
    )


def _rise(run: RunFiles) -> Answer:
    lines = []
    for generator, measured in run.metrics["creatives"].items():
        estimate = measured.get("delta_r_judge")
        if estimate and estimate["value"] is not None:
            verdict, label = _rise_verdict(run, generator, measured)
            sentences = [
                *_places(run, generator),
                *(
                    f"{_capital(lookup(key).title)}: {_numbers(key, measured[key], signed=True)}."
                    for key in ("reciprocal_rank_gain_judge", "percentile_gain_judge")
                    if (measured.get(key) or {}).get("value") is not None
                ),
                _with_interval("delta_r_judge", estimate, "a rise from a fall"),
                *_best_control(run),
            ]
            lines.append(Line(generator, verdict, label, sentences))
    return Answer(
        "Does the item rise in the user's list?",
        f"The judge, {_who_judges(run)}, ranks all items for the user, once with the item's "
        "own image and once with the creative. Only the item asked about gets a creative, so anything that makes an "
        "item stand out "
        "rises, one image for everybody included: a rise counts where a user's own image also beats another user's. "
        "ΔR is the change of place, relative to the place before: +0.5 is from 10th to 5th; a fall can count far more "
        "than a rise "
        "(from 1st to 51st is −50), so a few falls can outweigh many rises.",
        lines,
        "" if lines else "Not measured in this run.",
    )


def _rise_verdict(run: RunFiles, generator: str, measured: dict[str, Any]) -> tuple[Verdict, str]:
    """A rise is good news only where it is the user's own image that makes it."""
    leading = measured.get("percentile_gain_judge") or measured["delta_r_judge"]
    verdict, label = _sign(leading, "yes", "no: it falls")
    if verdict == "good" and personal(run.metrics, generator)[0] != "good":
        return "unclear", "it rises; whether for this user, cannot tell"
    return verdict, label


def _best_control(run: RunFiles) -> list[str]:
    """What the best of the impersonal controls reaches, beside which any rise has to be seen."""
    found = {
        name: measured["risen_judge"]["value"]
        for name, measured in (run.metrics.get("controls") or {}).items()
        if name.startswith("control.") and (measured.get("risen_judge") or {}).get("value") is not None
    }
    if not found:
        return []
    best = max(found, key=lambda name: found[name])
    return [
        f"Of the controls {best.removeprefix('control.')} lifts most items: {share(found[best])} of them rise."
    ]


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
        )
        + " Many items can look alike, so that the verdict also asks whether a search of the catalogue with the creative finds "
        "this item among the first ten, for more than half of the creatives.",
        lines,
        _out_of_its_depth(run) if lines else "Not measured in this run.",
    )


def out_of_domain(run: RunFiles) -> bool:
    """Return whether the run's encoder has never seen images such as these: demo-clip knows the renderer's alone."""
    return run.facts.get("encoder") == "demo-clip" and not run.facts.get("rendered", True)


def _out_of_its_depth(run: RunFiles) -> str:
    """What a reader must know of likeness measured by a model that has seen no such images; "" where it has."""
    if not out_of_domain(run):
        return ""
    return (
        "Read this with care: demo-clip has only ever seen the renderer's posters, and these images are others. "
        "Set recgen.encoder to a CLIP model of real images, such as ViT-H-14, for a likeness that means something."
    )


def _recognisable_line(run: RunFiles, generator: str) -> Line | None:
    measured = run.metrics["creatives"][generator]
    kept, likeness = (measured.get(key) or {"value": None} for key in ("content_preservation", "cis"))
    sentences, verdict, label = [], None, ""
    found = _found_again(measured, len(run.items))
    if kept["value"] is not None:
        bounds = "" if kept["low"] is None else f" ({share(kept['low'])} to {share(kept['high'])})"
        shows = f"{share(kept['value'])}{bounds} of the creatives still show what their item is"
        sentences.append(f"{shows}; {found}." if found else f"{shows}.")
        verdict, label = _sign(_beyond(kept, 0.5), "mostly", "mostly not", "about half")
    elif found:
        sentences.append(f"{_capital(found)}.")
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
                verdict, label = _sign(more, "beyond chance", "no", "not beyond chance")
        if likeness["value"] >= SAME_IMAGE:
            verdict, label = "unclear", "it is the item's own image"
    if not sentences:
        return None
    if verdict == "good" and out_of_domain(run):
        verdict, label = "unclear", "cannot tell: the encoder has not seen such images"
    elif verdict == "good":
        verdict, label = _which_item(measured, len(run.items), label, kept["value"] is not None)
    return Line(generator, verdict or "unclear", label or "see the number", sentences)


def _which_item(measured: dict[str, Any], items: int, label: str, content: bool) -> tuple[Verdict, str]:
    """Return the verdict on creatives that look like their item, and its words: another item may look so too.

    It is good news only where a search of the catalogue finds the item among the first ten for more than half of them.
    """
    ten = measured.get("retrieved_top10") or {"value": None}
    if ten["value"] is None:
        return "good", label
    verdict, itself = _sign(
        _beyond(ten, max(0.5, _chance(items))), "", "mostly not the item itself", "the item itself about half"
    )
    if verdict == "good":
        return "good", label
    return "unclear", f"{'its content' if content else 'likeness beyond chance'}; {itself}"


def _beyond(estimate: dict[str, Any], yardstick: float) -> dict[str, Any]:
    """Return an estimate's interval less a yardstick."""
    ends = {end: None if estimate[end] is None else estimate[end] - yardstick for end in ("low", "high")}
    return {**estimate, **ends}


def _chance(items: int) -> float:
    return min(1.0, 10 / max(items, 1))


def _found_again(measured: dict[str, Any], items: int) -> str:
    """How often a search of the catalogue with the creative finds its item, as a part of a sentence; "" where it is not known."""
    first, ten = (measured.get(f"retrieved_top{k}") or {"value": None} for k in (1, 10))
    if first["value"] is None or ten["value"] is None:
        return ""
    return (
        f"a search of the {plain(items)} items with the creative finds its item first for {share(first['value'])} and among the "
        f"first ten for {share(ten['value'])} (chance {share(_chance(items))})"
    )


def _beyond_the_placebo(metrics: dict[str, Any], generator: str) -> tuple[Verdict, str]:
    """Return the verdict on images that the verifier tells from those of other users, and its words."""
    if personal(metrics, generator)[0] == "good":
        return "good", "yes"
    if contrast(metrics, generator, PLACEBO) is None:
        return "unclear", "cannot tell without a placebo"
    return "unclear", "not shown beyond the placebo"


def _made_for_the_user(run: RunFiles) -> Answer:
    lines = []
    for generator, test in run.metrics.get("tests", {}).get("permutation", {}).items():
        within = (
            "n" in test
        )  # a run of before: its creatives were dealt over all items, which any image of a liked item passes
        shown = within and test["p"] <= SIGNIFICANT and test["sd"] > 0
        verdict, label = _beyond_the_placebo(run.metrics, generator) if shown else ("unclear", "not shown")
        lines.append(
            Line(
                generator,
                verdict,
                label,
                [
                    f"Chance of a like: {number(test['observed'])} for the user it was made for, "
                    f"{number(test['null_mean'])} when dealt {'among the users of an item' if within else 'over all items'}; "
                    f"{number(test['sd'], 1)} standard deviations apart, {p_value(test['p'])}."
                ],
            )
        )
    return Answer(
        "Was it made for this user, or would anyone's image do?",
        "The verifier, a model of likes and dislikes, scores every creative for its own user; then the creatives of each item "
        "are dealt out among the item's users at random, a thousand times, and scored again (permutation test). What the item "
        "itself is worth to its users cancels out. The verdict also asks that own images beat swapped ones beyond the placebo.",
        lines,
        ""
        if lines
        else "Not measured in this run: no item was asked about by two users, so there is nothing to deal; the first question "
        "compares with images drawn for another user.",
    )


def _ranking(run: RunFiles) -> Answer:
    lines = []
    for generator in (name for name in run.metrics.get("downstream", {}) if name in run.generators):
        found = downstream_contrasts(run.metrics, generator, RANKING)
        if not found:
            continue
        verdict, label = ranks_better(run.metrics, generator)
        sentences = [_downstream_difference(RANKING, other, test) for other, test in found.items()]
        lists = downstream_contrasts(run.metrics, generator, f"{RANKING} reranked").get("another user's")
        if lists is not None:
            sentences.append(_downstream_difference(f"{RANKING} reranked", "another user's", lists))
        lines.append(Line(generator, verdict, label, sentences))
    return Answer(
        "Does the recommender rank better with these images?",
        "Items are drawn blind to the test part. Their images are mixed with creatives made for users who like them in the "
        "training part, and the model is trained anew; beside it with creatives of the same items for users who have not met "
        "them, with the creatives of other drawn items, with images of random items and with all images as they are (ORI). "
        "Only what beats ORI and all of these is the generator's: touching items, or any image, moves a ranking too. Each "
        "draw has its own items and seed of training; intervals know of other draws and other users. “In a list” nothing is "
        "trained: every item of a short list shows a creative, the held-out like as well as the others.",
        lines,
        ""
        if lines
        else "Not measured in this run: it has no downstream stage, no items to draw for it (recgen.downstream.items), or "
        "only generators that read their images from a folder.",
    )


def _downstream_difference(key: str, other: str, test: dict[str, Any]) -> str:
    metric = lookup(key)
    tested = "" if test["p"] is None else f"; {p_value(test['p'])}"
    draws = f"{test['n']}\u00a0draw{'s' if test['n'] != 1 else ''}"
    return (
        f"{metric.title}, own minus {other}: {number(test['difference'], metric.digits, signed=True)} "
        f"({draws}, {bounds_of(metric, test)}{tested})."
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
            if verdict == "good" and personal(run.metrics, generator)[0] != "good":
                verdict, label = "unclear", "no personal gain to hold"
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
    sentence = f"{_capital(lookup(key).title)}: {_numbers(key, estimate, signed=True)}."
    if low is not None and high is not None and low <= 0 <= high:
        sentence += f" The interval includes zero: this run cannot tell {apart}."
    return sentence


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _numbers(key: str, estimate: dict[str, Any], signed: bool = False) -> str:
    digits = lookup(key).digits
    bounds = interval(estimate["low"], estimate["high"], digits)
    value = number(estimate["value"], digits, signed)
    return f"{value} (95% interval {bounds}; n\u00a0=\u00a0{plain(estimate['n'])})"


def _minus(value: float | None) -> float | None:
    return None if value is None else -value
