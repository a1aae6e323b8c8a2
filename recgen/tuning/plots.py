"""The plots of a study's report: history, Pareto front, importances, and each setting against the first objective."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from recgen.report.drawing import GREY, PALETTE, STYLE, Plot, canvas, panels, svg
from recgen.report.text import shorten
from recgen.tuning.facts import StudyFacts


def plots(study: StudyFacts) -> list[Plot]:
    """Return the plots that this study has trials for."""
    if not study.of("complete"):
        return []
    with matplotlib.rc_context(STYLE):
        drawn = (_history(study), _front(study), _importances(study), _slices(study))
    return [plot for plot in drawn if plot]


def _history(study: StudyFacts) -> Plot:
    """Each trial's value, with the best so far."""
    complete, pruned, failed = (study.of(state) for state in ("complete", "pruned", "failed"))

    def draw(axes: Axes, name: str, colour: str) -> None:
        at = study.objectives.index(name)
        values = [row.values[at] for row in complete]
        numbers = [row.number for row in complete]
        spread = [
            float(np.std(row.seeds[name], ddof=1)) if len(row.seeds.get(name, [])) > 1 else 0.0
            for row in complete
        ]
        axes.errorbar(numbers, values, yerr=spread, fmt="o", color=colour, markersize=4, elinewidth=1)
        axes.step(numbers, np.maximum.accumulate(values), where="post", color=GREY, linewidth=1.4)
        stopped = [row for row in pruned if row.values]
        axes.plot([row.number for row in stopped], [row.values[at] for row in stopped], "x", color=GREY)
        for row in failed:
            axes.axvline(row.number, color=PALETTE[1], linewidth=1, linestyle=":")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("trial")
        axes.set_ylabel(name)

    words = f"{len(complete)} complete, {len(pruned)} pruned, {len(failed)} failed"
    return Plot(
        "History",
        "Each dot is a trial on validation, its bar one standard deviation over the training seeds; the grey line is the best so "
        "far. Crosses were pruned, dotted lines failed.",
        f"Values by trial. {words}.",
        panels(study.objectives, draw, "history"),
    )


def _front(study: StudyFacts) -> Plot | None:
    """All trials by both objectives, with those that no other beats in both."""
    if len(study.objectives) != 2:
        return None
    rows = study.of("complete")
    front = sorted(study.row(number).values for number in study.front)
    figure, axes = canvas(7.8, 3.4, left=0.95)
    axes.plot([row.values[0] for row in rows], [row.values[1] for row in rows], "o", color=GREY, markersize=5)
    axes.plot(
        *zip(*front, strict=True), "o-", color=PALETTE[0], markersize=6, linewidth=1.2, label="Pareto front"
    )
    if study.best is not None:
        axes.plot(
            *study.row(study.best).values,
            "*",
            color=PALETTE[1],
            markersize=13,
            label=f"best: trial {study.best}",
        )
    axes.set_xlabel(study.objectives[0])
    axes.set_ylabel(study.objectives[1])
    axes.legend(loc="best")
    numbers = ", ".join(map(str, study.front))
    return Plot(
        "Pareto front",
        "No other trial is better in one objective without being worse in the other.",
        f"Trials by both objectives. On the Pareto front: {numbers}.",
        [svg(figure, "front")],
    )


def _importances(study: StudyFacts) -> Plot | None:
    """How much each setting mattered for being among the better trials."""
    if not study.importances:
        return None

    def draw(axes: Axes, name: str, colour: str) -> None:
        found = study.importances[name]
        axes.barh(list(range(len(found))), list(found.values()), color=colour)
        axes.set_yticks(range(len(found)), [shorten(_short(key), 22) for key in found])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("share")
        axes.figure.subplots_adjust(left=0.42)

    words = "; ".join(
        f"{name}: " + ", ".join(f"{key} {share:.2f}" for key, share in found.items())
        for name, found in study.importances.items()
    )
    return Plot(
        "Importances",
        "PED-ANOVA: how far each setting's values in the best tenth of the trials differ from those in all of them. With few "
        "trials this says little.",
        f"Importances. {words}.",
        panels(list(study.importances), draw, "importances"),
    )


def _slices(study: StudyFacts) -> Plot:
    """Each setting's values against the first objective."""
    rows = study.of("complete")
    keys = list(dict.fromkeys(key for row in rows for key in row.params))

    def draw(axes: Axes, key: str, colour: str) -> None:
        mine = [row for row in rows if key in row.params]
        values: list[Any] = [row.params[key] for row in mine]
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            values = [str(value) for value in values]
        axes.plot(values, [row.values[0] for row in mine], "o", color=colour, markersize=4)
        numbers = [value for value in values if not isinstance(value, str)]
        if (
            numbers
            and isinstance(numbers[0], float)
            and min(numbers) > 0
            and max(numbers) / min(numbers) > 20
        ):
            axes.set_xscale("log")
        axes.set_xlabel(shorten(_short(key), 30))
        axes.set_ylabel(study.objectives[0])

    return Plot(
        "Setting by setting",
        f"{study.objectives[0]} of each complete trial against what it tried.",
        f"Scatter plots of {len(keys)} settings against {study.objectives[0]}.",
        panels(keys, draw, "slices"),
    )


def _short(key: str) -> str:
    return key.removesuffix(".guidance_scale") + (" CFG" if key.endswith(".guidance_scale") else "")
