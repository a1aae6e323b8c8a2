"""What a generator gains against what it keeps of the item: no generator to the upper right means no better trade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from recgen.metrics.registry import lookup
from recgen.report.drawing import GREY, PALETTE, Plot, canvas, svg
from recgen.report.run_files import RunFiles
from recgen.report.text import number, shorten

GAINS = ("true_utility_gain", "percentile_gain_judge")
KEPT = ("content_preservation", "retrieved_top10", "cis")
"""What is drawn: the first of each that the run has measured. A truth comes before a judge."""
MARKERS = "os^DvP"

Point = tuple[str, Mapping[str, Any], Mapping[str, Any]]


def plot(run: RunFiles) -> Plot | None:
    """Draw generators and controls by content kept and gain, with the generators that none beats in both joined by a line."""
    creatives, controls = run.metrics["creatives"], run.metrics.get("controls") or {}
    gain, kept = (_measured(creatives, keys) for keys in (GAINS, KEPT))
    if gain is None or kept is None:
        return None
    points = _points(creatives, gain, kept)
    beside = _points(
        {name: each for name, each in controls.items() if name.startswith("control.")}, gain, kept
    )
    best = front([(each["value"], other["value"]) for _, each, other in points])
    figure, axes = canvas(7.8, 3.8, left=1.05)
    _draw(axes, beside, [GREY])
    _draw(axes, points, PALETTE)
    line = sorted((points[row][1]["value"], points[row][2]["value"]) for row in best)
    axes.plot(*zip(*line, strict=True), color=GREY, linewidth=1, linestyle=":", zorder=0)
    axes.set_xlabel(f"{lookup(kept).title} ({lookup(kept).unit})")
    axes.set_ylabel(lookup(gain).title)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    figure.subplots_adjust(right=0.72)
    names = ", ".join(points[row][0] for row in best)
    words = "; ".join(
        f"{name}: kept {number(each['value'])}, gain {number(other['value'], signed=True)}"
        for name, each, other in [*points, *beside]
    )
    return Plot(
        "Gain against content kept",
        f"Means with 95% intervals; controls are grey. None is better in both than those on the dotted line: {names}.",
        f"Gain against content kept. {words}.",
        [svg(figure, "pareto")],
    )


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which points no other point beats: at least as good in both numbers, and better in one.

    Examples
    --------
    >>> front([(1.0, 1.0), (0.5, 2.0), (0.5, 1.5), (0.9, 0.9)])
    [0, 1]
    """
    return [
        row
        for row, (x, y) in enumerate(points)
        if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points)
    ]


def _measured(metrics: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> str | None:
    return next((key for key in keys if any(_has(each, key) for each in metrics.values())), None)


def _has(metrics: Mapping[str, Any], key: str) -> bool:
    return (metrics.get(key) or {}).get("value") is not None


def _points(metrics: Mapping[str, Mapping[str, Any]], gain: str, kept: str) -> list[Point]:
    return [
        (name.removeprefix("control."), each[kept], each[gain])
        for name, each in metrics.items()
        if _has(each, gain) and _has(each, kept)
    ]


def _draw(axes: Axes, points: Sequence[Point], colours: Sequence[str]) -> None:
    for row, (name, x, y) in enumerate(points):
        colour, marker = colours[row % len(colours)], MARKERS[row // len(colours) % len(MARKERS)]
        if x["low"] is not None:
            axes.plot([x["low"], x["high"]], [y["value"]] * 2, color=colour, linewidth=1, alpha=0.5)
        if y["low"] is not None:
            axes.plot([x["value"]] * 2, [y["low"], y["high"]], color=colour, linewidth=1, alpha=0.5)
        axes.plot(
            x["value"], y["value"], marker, color=colour, markersize=6, label=shorten(name, 24), linestyle=""
        )
