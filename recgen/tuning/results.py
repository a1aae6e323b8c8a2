"""What a study found, for its report: trials, front, importances."""

from __future__ import annotations

import warnings

from optuna.importance import get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from recgen.tuning.facts import StudyFacts, TrialRow
from recgen.tuning.importance import evaluator, lower_is_better
from recgen.tuning.space import Space, own_values
from recgen.tuning.study import ERROR, counted, history, scores, winner
from recgen.tuning.trial import StudyContext

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}
ENOUGH = 10  # complete trials before a best tenth can be told from the rest


def facts(study: Study, context: StudyContext, storage: str) -> StudyFacts:
    """Return what the report shows; `storage` is the storage as users know it."""
    trials = counted(study)
    best = winner(trials)
    objectives = context.tune.objectives
    names: list[str] = [*objectives]
    if isinstance(objectives, dict):
        names = [" + ".join(f"{weight:g} {name}" for name, weight in objectives.items())]
    found = scores(trials)
    claimed = study.user_attrs.get("winner")
    return StudyFacts(
        name=study.study_name,
        objectives=names,
        trials=[_row(trial, found.get(trial.number)) for trial in trials],
        best=None if best is None else best.number,
        winner=None if claimed is None else claimed["trial"],
        front=[trial.number for trial in study.best_trials] if found and len(names) > 1 else [],
        start=own_values(context.config, context.space),
        importances=_importances(study, names),
        facts=_facts(study, trials, context, storage),
    )


def _row(trial: FrozenTrial, score: float | None) -> TrialRow:
    told = trial.user_attrs
    gone = "its workers ended without a word" if trial.state is TrialState.FAIL else ""
    return TrialRow(
        trial.number,
        STATES[trial.state],
        tuple(trial.values or ()),
        dict(trial.params),
        told.get("seeds", {}),
        score,
        told.get(ERROR, gone),
        told.get("seconds"),
        tuple(told.get("tasks", ())),
    )


def _importances(study: Study, names: list[str]) -> dict[str, dict[str, float]]:
    """Return PED-ANOVA importances for each objective that differs between trials; none for fewer than `ENOUGH` trials."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    found = {}
    for at, name in enumerate(names):
        if len(done) < ENOUGH or len({trial.values[at] for trial in done}) == 1:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # see `lower_is_better`
            found[name] = get_param_importances(study, evaluator=evaluator(), target=lower_is_better(at))
    return found


def _facts(study: Study, trials: list[FrozenTrial], context: StudyContext, storage: str) -> dict[str, str]:
    again = sum(len(history(trial)) for trial in trials)
    took = [trial.user_attrs["seconds"] for trial in trials if "seconds" in trial.user_attrs]
    measure = {
        "retrained": "the downstream model retrained with creatives for the drawn items' audience, less the same with "
        "others', over all users",
        "reranked": "lists ranked again with users' own creatives, less the same with other users'",
    }
    seeds = context.config.settings.downstream.seeds
    return {
        "Measured": f"{measure[context.tune.measure]}; mean of {seeds} draws",
        "Validation": "data that end one part sooner: each user's validation item is the reference, and nothing later is there",
        "Search space": "; ".join(_told(key, context.space) for key in context.space),
        "Sampler": f"TPE, seeded by the run's seed and the trial; the first {context.tune.startup_trials} at random",
        "Trials done again because their worker was killed": str(again),
        "Time of a trial": f"{sum(took) / len(took):.0f} s on average" if took else "–",
        "Open it": f"optuna-dashboard {storage}",
    }


def _told(key: str, space: Space) -> str:
    values = space[key]
    if hasattr(values, "choices"):
        return f"{key} one of {', '.join(map(str, values.choices))}"
    step = f" by {values.step:g}" if values.step else ""
    return f"{key} {values.low:g} to {values.high:g}{step}{' (log)' if values.log else ''}"
