"""The plots of a study's report: Optuna's own, in its matplotlib version, whose drawings need no script and so no network.

Added by hand is what Optuna does not know or draw: how far a trial's value varies over the training seeds, the best so far where
there are two objectives, and which trial is the winner.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import matplotlib.pyplot as plt
import numpy as np
import optuna.visualization.matplotlib as drawn_by
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.exceptions import ExperimentalWarning
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from recgen.report.drawing import GREY, INK, PALETTE, STYLE, Plot, svg
from recgen.tuning.facts import StudyFacts
from recgen.tuning.importance import evaluator, lower_is_better

WIDTH, HEIGHT = 7.8, 3.6  # inches


def plots(study: Study, facts: StudyFacts) -> list[Plot]:
    """Return the plots that a study has trials for; what they show in words is in `facts`."""
    if not facts.of("complete"):
        return []
    with _style():
        found = (
            _history(study, facts),
            _front(study, facts),
            _importances(study, facts),
            _slices(study, facts),
            _intermediate(study, facts),
            _timeline(study),
        )
    return [plot for plot in found if plot]


@contextmanager
def _style() -> Iterator[None]:
    """Draw without a window, in the report's style, and leave no figure behind."""
    backend = plt.get_backend()
    plt.switch_backend("agg")
    try:
        with warnings.catch_warnings(), plt.rc_context():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        plt.close("all")
        plt.switch_backend(backend)


def _drawing(axes: Axes | np.ndarray, salt: str, width: float = WIDTH, height: float = HEIGHT) -> str:
    """Return what Optuna drew as an `<svg>` element in the report's colours and font, without the title that the page has."""
    every = list(axes.flat) if isinstance(axes, np.ndarray) else [axes]
    figure = every[0].get_figure()
    assert isinstance(figure, Figure)
    figure.set_size_inches(width, height)
    for each in every:
        for loc in ("left", "center"):
            each.set_title("", loc=loc)
        each.set_facecolor("none")
        each.grid(visible=False)
        each.tick_params(colors=STYLE["xtick.color"], labelsize=9)
        for label in (each.xaxis.label, each.yaxis.label):
            label.set(color=INK, size=10)
    figure.suptitle("")
    figure.tight_layout()
    return svg(figure, salt)


def _value(at: int) -> Callable[[FrozenTrial], float]:
    """Return the function of a trial that is its value for one objective."""
    return lambda trial: float(trial.values[at])


def _history(study: Study, facts: StudyFacts) -> Plot:
    """Each trial's value, the best so far, and how far the value varies over the training seeds."""
    complete, pruned, failed = (facts.of(state) for state in ("complete", "pruned", "failed"))
    drawings = []
    for at, name in enumerate(facts.objectives):
        several = len(facts.objectives) > 1
        target = _value(at) if several else None
        axes = drawn_by.plot_optimization_history(study, target=target, target_name=name)
        if several:
            best = np.maximum.accumulate([row.values[at] for row in complete])
            axes.step([row.number for row in complete], best, where="post", color=PALETTE[1], linewidth=1)
        rows = [row for row in complete if len(row.seeds.get(name, [])) > 1]
        spread = [float(np.std(row.seeds[name], ddof=1)) for row in rows]
        axes.errorbar(
            [row.number for row in rows], [row.values[at] for row in rows], spread, fmt="none", ecolor=GREY, elinewidth=1
        )  # fmt: skip
        drawings.append(_drawing(axes, f"history-{at}"))
    return Plot(
        "History",
        "Each dot is a trial on validation, its bar one standard deviation over the training seeds; the line is the best so far.",
        f"Values by trial. {len(complete)} complete, {len(pruned)} pruned, {len(failed)} failed.",
        drawings,
    )


def _front(study: Study, facts: StudyFacts) -> Plot | None:
    """All trials by both objectives, with those that no other beats in both, and the winner."""
    if len(facts.objectives) != 2:
        return None
    axes = drawn_by.plot_pareto_front(study, target_names=facts.objectives)
    if facts.best is not None:
        label, values = f"winner: trial {facts.best}", facts.row(facts.best).values
        axes.plot(*values, "*", color=PALETTE[1], markersize=13, label=label)
        axes.legend(frameon=False)
    return Plot(
        "Pareto front",
        "No other trial is better in one objective without being worse in the other.",
        f"Trials by both objectives. On the Pareto front: {', '.join(map(str, facts.front))}.",
        [_drawing(axes, "front")],
    )


def _importances(study: Study, facts: StudyFacts) -> Plot | None:
    """How much each setting mattered for being among the better trials."""
    if not facts.importances:
        return None
    drawings = []
    for at, name in enumerate(facts.objectives):
        if name in facts.importances:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # see `lower_is_better`
                axes = drawn_by.plot_param_importances(
                    study, evaluator(), target=lower_is_better(at), target_name=name
                )
            drawings.append(_drawing(axes, f"importances-{at}"))
    words = "; ".join(
        f"{name}: " + ", ".join(f"{key} {share:.2f}" for key, share in found.items())
        for name, found in facts.importances.items()
    )
    return Plot(
        "Hyperparameter importances",
        "PED-ANOVA: how far each setting's values in the best tenth of the trials differ from those in all of them. With few "
        "trials this says little.",
        f"Importances. {words}.",
        drawings,
    )


def _slices(study: Study, facts: StudyFacts) -> Plot:
    """Each setting's values against the first objective."""
    name, keys = facts.objectives[0], sorted({key for row in facts.of("complete") for key in row.params})
    axes = [drawn_by.plot_slice(study, [key], target=_value(0), target_name=name) for key in keys]
    return Plot(
        "Slice",
        f"{name} of each complete trial against what it tried, the later the darker.",
        f"Scatter plots of {len(keys)} settings against {name}.",
        [_drawing(each, f"slice-{at}", WIDTH / 2, HEIGHT * 0.8) for at, each in enumerate(axes)],
    )


def _intermediate(study: Study, facts: StudyFacts) -> Plot | None:
    """The values over the seeds done so far, where trials are pruned by them."""
    if not any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        return None
    axes = drawn_by.plot_intermediate_values(study)
    return Plot(
        "Intermediate values",
        "Each trial's mean over the training seeds done so far, by which trials are pruned.",
        f"Lines of values by number of seeds. {len(facts.of('pruned'))} trials were pruned.",
        [_drawing(axes, "intermediate")],
    )


def _timeline(study: Study) -> Plot:
    """When each trial ran."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return Plot(
        "Timeline",
        "When each trial ran, and how it ended.",
        f"Bars of {len(ended)} trials over time.",
        [_drawing(drawn_by.plot_timeline(study), "timeline")],
    )
