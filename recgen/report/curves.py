"""The training curves: one panel for each thing that is measured, and what they can and cannot show.

A series is called "what" or "what, of whom": all series of one "what" share a panel ("denoising loss, training" and "denoising
loss, held-out users"), and so do the reward and the judge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from recgen.report.drawing import GREY, INK, PALETTE, Plot, panels
from recgen.report.run_files import RunFiles
from recgen.report.text import number

REWARD, JUDGE, RANKER = "reward", "judge", "ranker: "
TRAINING = "training"
CURVE_POINTS = 400

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """The series of one learner that are drawn over each other.

    Attributes
    ----------
    who, what
        The learner, and what its series measure.
    series
        Name to points.
    """

    who: str
    what: str
    series: dict[str, Points]

    @property
    def title(self) -> str:
        """The panel's name; that of its series where there is only one."""
        return f"{self.who}, {next(iter(self.series)) if len(self.series) == 1 else self.what}"

    @property
    def compares(self) -> bool:
        """Whether the panel shows scores of two models, which have no common zero."""
        return {_what(name) for name in self.series} == {REWARD, JUDGE}

    @property
    def held_out_reward(self) -> Points:
        """The reward of those whom training did not see, or nothing."""
        return next(
            (p for name, p in self.series.items() if _what(name) == REWARD and not _is_training(name)), []
        )

    def start(self, name: str) -> float:
        """What a series is drawn against: nothing, or where two models are compared the model's first score of held-out users."""
        if not self.compares:
            return 0.0
        own = self.held_out_reward if _what(name) == REWARD else []
        return (own or self.series[name])[0][1]


def found(run: RunFiles) -> list[Panel]:
    """Return the panels of a run, generators before rankers, each learner's in the order in which it named its series."""
    drawn = []
    for who, series in sorted(run.curves.items(), key=lambda learner: learner[0].startswith(RANKER)):
        grouped: dict[str, dict[str, Points]] = {}
        for name, points in series.items():
            what = _what(name)
            if points:
                grouped.setdefault("reward and judge" if what in (REWARD, JUDGE) else what, {})[name] = points
        drawn += [Panel(who, what, named) for what, named in grouped.items()]
    return drawn


def plot(run: RunFiles) -> Plot | None:
    """Draw every training curve of the run."""
    drawn = {panel.title: panel for panel in found(run)}
    if not drawn:
        return None
    words = "; ".join(_in_words(panel) for panel in drawn.values())
    return Plot(
        "Training",
        _caption(list(drawn.values()), bool(run.facts.get("same_judge"))),
        f"Training curves. {words}.",
        panels(list(drawn), lambda axes, title, _: _draw(axes, drawn[title]), "curves"),
    )


def _caption(drawn: list[Panel], same_judge: bool) -> str:
    caption = "Losses and validation scores."
    if not any(panel.compares for panel in drawn):
        return caption
    caption += (
        " Reward and judge: what each says of the images made for users whom training never saw, as a change since the first "
        "measurement. The generator learns from the reward and never from the judge; the dotted line marks the best reward."
    )
    if same_judge:
        return caption + (
            " In this run they are one model (same_judge), so the two lines coincide whatever was learned: nothing here can show "
            "over-optimisation."
        )
    return caption + (
        " While both rise, what is learned holds for a model that took no part; where the reward goes on and the judge does "
        "not, the generator learns the reward's quirks."
    )


def _draw(axes: Axes, panel: Panel) -> None:
    for name, points in panel.series.items():
        line = np.array(points[:: max(1, len(points) // CURVE_POINTS)])
        pale = len(panel.series) > 1 and _is_training(name)
        axes.plot(
            line[:, 0],
            line[:, 1] - panel.start(name),
            color=PALETTE[1] if _what(name) == REWARD else PALETTE[0],
            linewidth=1 if pale else 1.6,
            linestyle="--" if panel.compares and _what(name) == JUDGE else "-",
            alpha=0.35 if pale else 1,
            zorder=1 if pale else 2,
            marker="o" if len(points) == 1 else None,
            label=name,
        )
    if panel.compares:
        axes.axhline(0, color=GREY, linewidth=0.8, zorder=0)
        axes.set_ylabel("change since the start", fontsize=9)
        if panel.held_out_reward:
            axes.axvline(_best(panel.held_out_reward)[0], color=INK, linewidth=1, linestyle=":", zorder=0)
    if len(panel.series) > 1:
        axes.legend(fontsize=8, handlelength=1.6)
    axes.set_xlabel("epoch" if panel.who.startswith(RANKER) else "step")


def _in_words(panel: Panel) -> str:
    ends = [
        f"from {number(points[0][1], 4)} to {number(points[-1][1], 4)}" for points in panel.series.values()
    ]
    if len(ends) == 1:
        return f"{panel.title}: {ends[0]}"
    words = f"{panel.title}: " + ", ".join(
        f"{name} {end}" for name, end in zip(panel.series, ends, strict=True)
    )
    if not panel.held_out_reward:
        return words
    step, value = _best(panel.held_out_reward)
    return f"{words}, best reward {number(value, 4)} at step {step:,.0f}"


def _best(points: Points) -> tuple[float, float]:
    return max(points, key=lambda point: point[1])


def _what(name: str) -> str:
    return name.partition(", ")[0]


def _is_training(name: str) -> bool:
    return name.partition(", ")[2] == TRAINING
