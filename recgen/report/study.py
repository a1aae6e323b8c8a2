"""The report of a tuning study: one HTML file that opens without a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from recgen import __version__
from recgen.metrics.statistics import paired_seeds
from recgen.report import study_plots
from recgen.report.text import duration, interval, number, p_value, shorten
from recgen.workspace import write_bytes

HERE = Path(__file__).parent
DIGITS = 4  # Recall and NDCG differ in the fourth decimal long before they differ in the third


@dataclass(frozen=True)
class TrialRow:
    """One trial of a study, as its report shows it.

    Attributes
    ----------
    number
        Its number in the study.
    state
        complete, pruned, failed or running.
    values
        Its value for each objective; empty where it has none.
    params
        What was tried, by key.
    seeds
        Each metric's values over the training seeds.
    score
        What winners are chosen by; None where it is not complete.
    error
        Why it failed.
    seconds, tasks
        How long it took, and the names of the tasks that it did itself.
    """

    number: int
    state: str
    values: tuple[float, ...]
    params: dict[str, Any]
    seeds: dict[str, list[float]] = field(default_factory=dict)
    score: float | None = None
    error: str = ""
    seconds: float | None = None
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyFacts:
    """What the report of a study shows.

    Attributes
    ----------
    name
        The study's name.
    objectives
        Names of the objectives, in their order.
    trials
        All trials that count.
    best
        The number of the best trial on validation; None where none is complete.
    winner
        The number of the trial whose run on the test split is in the folder `winner`; None where there is none.
    front
        Numbers of the trials on the Pareto front.
    start
        The values that the configuration had before, by key.
    importances
        For each objective, how much each key mattered (PED-ANOVA), the most first; empty where there are too few trials.
    facts
        Further facts, label to text.
    """

    name: str
    objectives: list[str]
    trials: list[TrialRow]
    best: int | None
    winner: int | None
    front: list[int]
    start: dict[str, Any]
    importances: dict[str, dict[str, float]]
    facts: dict[str, str]

    def row(self, number: int) -> TrialRow:
        """Return a trial by its number."""
        return next(trial for trial in self.trials if trial.number == number)

    def of(self, state: str) -> list[TrialRow]:
        """Return the trials of a state."""
        return [trial for trial in self.trials if trial.state == state]


def build(folder: Path, study: StudyFacts) -> Path:
    """Write study.html into a study's folder and return its path."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"duration": duration, "shorten": shorten, "value": _shown, "score": _score}
    page = environment.get_template("study.html.j2").render(
        version=__version__,
        study=study,
        best=None if study.best is None else study.row(study.best),
        sentences=_sentences(study),
        plots=study_plots.plots(study),
        report=(folder / "winner/report.html").exists(),
        style=(HERE / "style.css").read_text(encoding="utf-8"),
    )
    path = folder / "study.html"
    write_bytes(path, page.encode("utf-8", errors="replace"))
    return path


def _sentences(study: StudyFacts) -> list[str]:
    """Say what the study found, and how far that can be trusted."""
    found = []
    if study.best is None:
        return ["No trial was completed, so there is nothing to choose from."]
    best = study.row(study.best)
    values = ", ".join(f"{name} {_score(value)}" for name, value in zip(study.objectives, best.values, strict=True))
    found.append(f"Trial {best.number} is the best on validation: {values}.")
    if len(study.objectives) > 1:
        found.append(
            "With more than one objective the winner is the trial with the highest mean of its values, each divided by the best "
            "of all trials; it lies on the Pareto front."
        )
    first = next((row for row in study.of("complete") if row.params == study.start), None)
    if first is not None and first.number != best.number:
        found += [_compared(best, first, metric) for metric in best.seeds]
        found.append(
            f"Trial {first.number} has the settings that the study started from. The winner was chosen because it came out best "
            f"of {len(study.of('complete'))}, so these differences flatter it; its run on the test split does not."
        )
    elif first is not None:
        found.append("These are the settings that the study started from: nothing better was found.")
    if study.winner is not None and study.winner != study.best:
        found.append(
            f"The test split was seen by trial {study.winner}, the best when the study first ended. It is not looked at again, "
            f"or it would help to choose."
        )
    return found


def _compared(best: TrialRow, first: TrialRow, metric: str) -> str:
    gap = paired_seeds(best.seeds[metric], first.seeds[metric])
    return (
        f"{metric}, trial {best.number} against trial {first.number}: {number(gap.difference, DIGITS, signed=True)} "
        f"({interval(gap.low, gap.high, DIGITS)} over {gap.n} training seeds, {p_value(gap.p)})."
    )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _score(value: float | None) -> str:
    return number(value, DIGITS)
