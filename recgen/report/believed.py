"""How far the run's judge can be believed, by what images differ in: measured where the truth is known, else as recorded.

``recgen/assets/calibration.json`` is written by ``experiments/instruments/calibration.py``, which see.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from recgen.assets import FOLDER
from recgen.report.run_files import RunFiles
from recgen.report.text import interval, number

KINDS = {
    "conditions": "in what was asked for (one noise)",
    "noises": "in their noise (one style asked for)",
    "open noises": "in their noise (no style asked for)",
    "generators": "in the generator",
    "users": "in the user they were made for",
}
"""Kinds of comparisons, by what the images of a request differ in."""
COMBINED = "mean of one training of each encoder"
ENCODERS = {"demo-clip", "demo-resnet"}


@dataclass(frozen=True)
class Kind:
    """What is known of the judge on one kind of comparison; "" where nothing is."""

    differ: str
    here: str
    recorded: str


def kinds(run: RunFiles) -> list[Kind]:
    """Return a row for each kind of comparison, with the correlation of judge and truth within requests."""
    here, recorded = run.metrics.get("calibration") or {}, _recorded(run.facts)
    return [Kind(words, _words(here.get(kind)), recorded.get(kind, "")) for kind, words in KINDS.items()]


def source(run: RunFiles) -> str:
    """Return what the recorded column is of, in a sentence."""
    name = _name(run.facts)
    if name in _file()["judges"]:
        return f"The recorded values are of the same kind of judge ({name}), {_worlds()}."
    judge = f"{run.facts.get('judge')} through {run.facts.get('judge_encoder', run.facts.get('encoder'))}"
    return (
        f"A judge like this one ({judge}) has not been calibrated. The recorded values are the range of all judges on "
        f"record, {_worlds()}, whose images their encoders know well: the most that can be hoped for."
    )


def _recorded(facts: Mapping[str, Any]) -> dict[str, str]:
    judges = _file()["judges"]
    own = judges.get(_name(facts))
    if own is not None:
        return {kind: _words(own[kind]["truth"]) for kind in KINDS}
    found = {
        kind: [value for each in judges.values() if (value := each[kind]["truth"]["value"]) is not None]
        for kind in KINDS
    }
    return {
        kind: f"{number(min(values), 2)} to {number(max(values), 2)}"
        for kind, values in found.items()
        if values
    }


def _name(facts: Mapping[str, Any]) -> str:
    encoders = str(facts.get("judge_encoder", facts.get("encoder"))).split(" + ")
    if len(encoders) == 1:
        return f"{facts.get('judge')}, {encoders[0]}"
    return f"{facts.get('judge')}, {COMBINED}" if set(encoders) == ENCODERS else ""


def _words(estimate: Mapping[str, Any] | None) -> str:
    if not estimate or estimate["value"] is None:
        return ""
    bounds = interval(estimate["low"], estimate["high"], 2)
    return f"{number(estimate['value'], 2)} ({bounds}; n\u00a0=\u00a0{estimate['n']})"


def _worlds() -> str:
    seeds = len(_file()["seeds"])
    return f"in {seeds} simulated world{'s' if seeds > 1 else ''}"


@cache
def _file() -> dict[str, Any]:
    return json.loads((FOLDER / "calibration.json").read_text(encoding="utf-8"))
