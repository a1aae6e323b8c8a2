"""The report's section on the gate: how many creatives may be shown, why others may not, and how right that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recgen.report.run_files import RunFiles
from recgen.report.text import interval, number

REASONS = {
    "unsound": "no image, or a single colour",
    "unsafe": "not safe",
    "attributes": "shows something else",
    "text": "far from the item's text",
    "image": "far from the item's image",
    "no gain": "not predicted to help",
}
_SHARES = (("keeps", "show the item"), ("helps", "are truly liked more"))


@dataclass(frozen=True)
class Row:
    """One generator: how many are accepted, why others are not, and what the truth says where it is known."""

    generator: str
    accepted: str
    refused: str
    safety: str
    truth: list[str]


@dataclass(frozen=True)
class Section:
    """The table; `truth` has the titles of its last columns, none where no truth is known."""

    rows: list[Row]
    truth: list[str]


def section(run: RunFiles) -> Section | None:
    """Return the section; None for a run without a gate."""
    found = run.metrics.get("gate") or {}
    if not found:
        return None
    known = any("true_gain" in each for each in found.values())
    titles = [f"Of the accepted, {does} (of all; found)" for _, does in _SHARES]
    titles.append("True gain a request: gate, all")
    return Section([_row(name, each) for name, each in found.items()], titles if known else [])


def _row(generator: str, found: dict[str, Any]) -> Row:
    refused = ", ".join(
        f"{REASONS.get(reason, reason)} {count}" for reason, count in found["refused"].items()
    )
    truth = []
    if "true_gain" in found:
        truth = [
            f"{_share(part['precision'])} ({_percent(part['all'])}; {_percent(part['recall'])})"
            for part in (found[key] for key, _ in _SHARES)
        ]
        gain = found["true_gain"]
        truth.append(f"{_number(gain['shown'])}, {_number(gain['all'])}")
    return Row(generator, _share(found["accepted"]), refused or "none", found["safety"], truth)


def _percent(estimate: dict[str, Any]) -> str:
    return "–" if estimate["value"] is None else f"{100 * estimate['value']:.0f}%"


def _share(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return "–"
    low, high = (None if end is None else 100 * end for end in (estimate["low"], estimate["high"]))
    return f"{_percent(estimate)} ({interval(low, high, 0)}) of {estimate['n']}"


def _number(estimate: dict[str, Any]) -> str:
    return "–" if estimate["value"] is None else number(estimate["value"], 2, signed=True)
