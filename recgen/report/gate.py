"""The report's section on the gate: how many creatives may be shown, why others may not, and how right that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recgen.report.run_files import RunFiles
from recgen.report.text import interval, number

REASONS = {
    "unsound": "no image, or of a single colour",
    "unsafe": "not safe",
    "attributes": "showing something else",
    "text": "far from the item's text",
    "image": "far from the item's image",
    "no gain": "not predicted to help",
}
QUESTIONS = {"keeps": "shows the item", "helps": "is truly liked more than the item's own image"}


@dataclass(frozen=True)
class Row:
    """One generator: how many of its creatives are accepted, why others are not, and what was asked about safety."""

    generator: str
    accepted: str
    refused: str
    safety: str


@dataclass(frozen=True)
class Truth:
    """How right the gate is about one generator and question: shares with their intervals, as text."""

    generator: str
    question: str
    precision: str
    recall: str
    all: str


@dataclass(frozen=True)
class Section:
    """The section; `truths` and `gains`, a sentence a generator, are empty where no truth is known."""

    rows: list[Row]
    truths: list[Truth]
    gains: list[str]


def section(run: RunFiles) -> Section | None:
    """Return the section; None for a run without a gate."""
    found = run.metrics.get("gate") or {}
    if not found:
        return None
    known = {name: each for name, each in found.items() if "true_gain" in each}
    return Section(
        [_row(name, each) for name, each in found.items()],
        [_truth(name, each, key) for name, each in known.items() for key in QUESTIONS],
        [_gain(name, each["true_gain"]) for name, each in known.items()],
    )


def _row(generator: str, found: dict[str, Any]) -> Row:
    refused = ", ".join(
        f"{count} {REASONS.get(reason, reason)}" for reason, count in found["refused"].items()
    )
    return Row(generator, _share(found["accepted"]), refused or "none", found["safety"])


def _truth(generator: str, found: dict[str, Any], key: str) -> Truth:
    shares = (_share(found[key][part]) for part in ("precision", "recall", "all"))
    return Truth(generator, QUESTIONS[key], *shares)


def _gain(generator: str, found: dict[str, Any]) -> str:
    return f"{generator}: {_mean(found['shown'])} with the gate, {_mean(found['all'])} without."


def _share(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return "–"
    low, high = (None if end is None else 100 * end for end in (estimate["low"], estimate["high"]))
    return f"{100 * estimate['value']:.0f}% ({interval(low, high, 0)}) of {estimate['n']}"


def _mean(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return "–"
    return f"{number(estimate['value'], 2, signed=True)} ({interval(estimate['low'], estimate['high'], 2)})"
