"""The report's section on creatives that users share: what that costs them, and what it saves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recgen.metrics.registry import Metric, lookup
from recgen.metrics.sharing import METRICS
from recgen.report.run_files import RunFiles
from recgen.report.text import interval, number


@dataclass(frozen=True)
class Row:
    """One level of sharing: who shares, images for all requests, the mean gain and what is lost to own creatives."""

    who: str
    images: str
    gains: list[str]
    lost: list[str]


@dataclass(frozen=True)
class Generator:
    """A generator's levels."""

    name: str
    requests: int
    rows: list[Row]


@dataclass(frozen=True)
class Section:
    """The section: titles of what was measured, and the generators."""

    metrics: list[Metric]
    generators: list[Generator]


def section(run: RunFiles) -> Section | None:
    """Return the section; None for a run whose users have creatives of their own."""
    found = run.metrics.get("sharing") or {}
    if not found:
        return None
    measured = next(iter(found.values()))["curve"][0]["gain"]
    keys = [key for key in METRICS if key in measured][:2]
    return Section(
        [lookup(key) for key in keys],
        [
            Generator(name, each["requests"], [_row(level, keys) for level in each["curve"]])
            for name, each in found.items()
        ],
    )


def _row(level: dict[str, Any], keys: list[str]) -> Row:
    count = level["groups"]
    who = "each user" if count is None else "everybody" if count == 1 else f"{count} groups"
    images = number(level["images"], 0)
    if count is not None:
        images += f" ({100 * level['saved']:.0f}% saved)"
    gains = [_cell(key, level["gain"][key], "value") for key in keys]
    lost = ["" if "lost" not in level else _cell(key, level["lost"][key], "difference") for key in keys]
    return Row(who, images, gains, lost)


def _cell(key: str, found: dict[str, Any], value: str) -> str:
    digits = lookup(key).digits
    return f"{number(found[value], digits, signed=True)} ({interval(found['low'], found['high'], digits)})"
