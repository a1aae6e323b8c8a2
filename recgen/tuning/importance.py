"""How much each setting matters: PED-ANOVA, as a study's report and its plots ask Optuna for it."""

from __future__ import annotations

from collections.abc import Callable

from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial


def evaluator() -> PedAnovaImportanceEvaluator:
    """Return the evaluator: the best tenth of the trials against all of them."""
    return PedAnovaImportanceEvaluator()


def lower_is_better(at: int) -> Callable[[FrozenTrial], float]:
    """Return the function of a trial that is its value for one objective times −1.

    Given a target of one's own the evaluator takes lower for better, and warns of it every time.
    """
    return lambda trial: -float(trial.values[at])
