"""What a tuning study found, as its report shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
