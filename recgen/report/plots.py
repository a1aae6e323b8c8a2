"""The report's plots, as inline SVG that uses the page's own font."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from recgen.report import curves, pareto
from recgen.report.drawing import GREY, INK, PALETTE, RULE, STYLE, Plot, canvas, panels, svg
from recgen.report.run_files import RunFiles
from recgen.report.text import number, p_value, shorten


def plots(run: RunFiles) -> list[Plot]:
    """Return the plots that this run has data for."""
    with matplotlib.rc_context(STYLE):
        drawn = (
            pareto.plot(run),
            _gap(run),
            _delta_r(run),
            _places(run),
            _permutation(run),
            curves.plot(run),
        )
    return [plot for plot in drawn if plot]


def _gap(run: RunFiles) -> Plot | None:
    """Means of Delta R by judge and by reward, with intervals, so that the eye sees the gap between them."""
    measured = {
        name: (values["delta_r_judge"], values.get("delta_r_reward"))
        for name, values in run.metrics["creatives"].items()
        if (values.get("delta_r_judge") or {}).get("value") is not None
    }
    if not measured:
        return None
    figure, axes = canvas(7.8, 0.9 + 0.5 * len(measured), left=1.9)
    for row, pair in enumerate(measured.values()):
        for offset, colour, marker, label, estimate in zip(
            (-0.12, 0.12), (PALETTE[0], PALETTE[1]), "os", ("judge", "reward"), pair, strict=True
        ):
            if estimate and estimate["value"] is not None:
                _whisker(axes, row + offset, estimate, colour, marker, label if row == 0 else "")
    axes.axvline(0, color=GREY, linewidth=1, zorder=0)
    axes.set_yticks(range(len(measured)), [shorten(name, 24) for name in measured])
    axes.set_ylim(len(measured) - 0.4, -0.6)
    axes.set_xlabel("mean ΔR, 95% interval")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
    words = "; ".join(
        f"{name}: judge {number(judge['value'])}" + (f", reward {number(reward['value'])}" if reward else "")
        for name, (judge, reward) in measured.items()
    )
    return Plot(
        "Rise by the judge and by the reward",
        "Reward and judge are one model in this run (same_judge): that they agree is by construction and shows "
        "nothing about over-optimisation."
        if run.facts.get("same_judge")
        else "A reward far to the right of its judge is over-optimisation; the interval of the gap itself is in "
        "the table above.",
        f"Mean ΔR with 95% intervals. {words}.",
        [svg(figure, "gap")],
    )


def _whisker(axes: Axes, row: float, estimate: dict[str, Any], colour: str, marker: str, label: str) -> None:
    if estimate["low"] is not None:
        axes.plot([estimate["low"], estimate["high"]], [row, row], color=colour, linewidth=2)
    axes.plot(estimate["value"], row, marker, color=colour, markersize=6, label=label or None)


def _delta_r(run: RunFiles) -> Plot | None:
    """Where the creatives' Delta R lie; the unbounded left tail is gathered into one bar."""
    found = _by_generator(run, "delta_r_judge")
    if not found:
        return None
    edges = np.linspace(-1, 1, 41)

    def draw(axes: Axes, name: str, colour: str) -> None:
        values = np.clip(found[name], -1, 1)
        axes.hist(values, bins=list(edges), weights=np.full(len(values), 100 / len(values)), color=colour)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_xticks([-1, -0.5, 0, 0.5, 1], ["≤ −1", "−0.5", "0", "0.5", "1"])
        axes.set_xlabel("ΔR (judge)")
        axes.set_ylabel("% of creatives")

    words = "; ".join(f"{name}: median {number(float(np.median(values)))}" for name, values in found.items())
    return Plot(
        "How much the items move, creative by creative",
        "Right of the line the item rises, left of it it falls; falls of −1 and below are in the first bar.",
        f"Histograms of ΔR by the judge. {words}.",
        panels(list(found), draw, "delta-r"),
    )


def _places(run: RunFiles) -> Plot | None:
    """Share of items at or above each place, with the original images and with each generator's."""
    before, after = _by_generator(run, "rank_original_judge"), _by_generator(run, "rank_creative_judge")
    if not before or not after:
        return None
    figure, axes = canvas(7.8, 3.2)
    original = next(iter(before.values()))
    _steps(axes, original, GREY, "original images")
    for index, (name, ranks) in enumerate(after.items()):
        _steps(
            axes,
            ranks,
            PALETTE[index % len(PALETTE)],
            shorten(name, 24),
            ("-", "--", ":")[index // len(PALETTE) % 3],
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda place, _: f"{place:,.0f}")
    axes.set_xlim(1, max(len(run.items), 2))
    axes.set_ylim(0, 100)
    axes.set_xlabel("place in the user's list (judge)")
    axes.set_ylabel("% of items at this place or above")
    axes.legend(loc="upper left")
    words = "; ".join(f"{name}: median place {np.median(ranks) + 1:.0f}" for name, ranks in after.items())
    return Plot(
        "Where the items stand",
        "A line above the grey one means that more items reach that place with a creative than with their "
        "own image.",
        f"Cumulative distribution of places. Original: median place {np.median(original) + 1:.0f}; {words}.",
        [svg(figure, "places")],
    )


def _steps(axes: Axes, ranks: np.ndarray, colour: str, label: str, style: str = "-") -> None:
    places, counts = np.unique(ranks + 1, return_counts=True)
    heights = 100 * np.cumsum(counts) / len(ranks)
    axes.step(
        [*places, 10**9],
        [*heights, 100],
        where="post",
        color=colour,
        linestyle=style,
        linewidth=1.8,
        label=label,
    )


def _permutation(run: RunFiles) -> Plot | None:
    """The verifier's score for the right users against its scores when creatives are dealt at random."""
    tests = run.metrics.get("tests", {}).get("permutation", {})
    stored = {name: test for name, test in tests.items() if test.get("null")}
    if not stored:
        return None

    def draw(axes: Axes, name: str, colour: str) -> None:
        axes.hist(stored[name]["null"], bins=30, color=RULE)
        axes.axvline(stored[name]["observed"], color=colour, linewidth=2.2)
        axes.set_xlabel("mean verifier score")
        axes.set_ylabel("random deals")

    words = "; ".join(
        f"{name}: own {number(test['observed'])}, random {number(test['null_mean'])}, {p_value(test['p'])}"
        for name, test in stored.items()
    )
    return Plot(
        "Made for this user?",
        "Grey: the scores when the creatives are dealt to users at random. The line: each creative with its "
        "own user.",
        f"Histograms of the permuted scores. {words}.",
        panels(list(stored), draw, "permutation"),
    )


def _by_generator(run: RunFiles, column: str) -> dict[str, np.ndarray]:
    """The measured values of a per-request column for each generator that has any."""
    if column not in run.per_request:
        return {}
    groups = run.per_request.dropna(subset=[column]).groupby("generator")[column]
    present = {str(name): values.to_numpy(dtype=np.float64) for name, values in groups}
    return {name: present[name] for name in run.generators if name in present}
