"""The study itself, on a function that costs nothing: what is drawn, counted, given up and chosen."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from recgen.config.tune import Tune
from recgen.core.errors import UserError
from recgen.pipeline.workspace import Workspace
from recgen.tuning.study import (
    ERROR,
    counted,
    history,
    open_storage,
    open_study,
    requeue_stale_trials,
    scores,
    shown,
    trial_folder,
    winner,
)


def _study(root, **changes):
    storage = open_storage(None, root, 60)
    return storage, open_study(storage, "s", Tune(**changes), seed=7)


def _value(trial):
    x, k = trial.suggest_float("x", -1, 1), trial.suggest_int("k", 1, 5)
    return -(x**2) - 0.1 * k


def test_a_study_that_was_stopped_draws_what_it_would_have_drawn(tmp_path):
    """Random and TPE trials alike: 3 trials, another process, a killed trial and 9 more are the 12 of an undisturbed study."""
    settings = {"objectives": ["recall@10"], "startup_trials": 4, "prune": False}
    _, whole = _study(tmp_path / "a", **settings)
    whole.optimize(_value, n_trials=12)
    storage, _ = _study(tmp_path / "b", **settings)
    for _ in range(3):  # each time from the file, as another process would
        _study(tmp_path / "b", **settings)[1].optimize(_value, n_trials=1)
    begun = _study(tmp_path / "b", **settings)[1].ask()
    drawn = begun.suggest_float("x", -1, 1)  # and its worker is killed
    storage, study = _study(tmp_path / "b", **settings)
    requeue_stale_trials(study, storage, tmp_path / "b")
    study.optimize(_value, n_trials=9)
    mine = counted(study)
    assert [trial.params for trial in mine] == [trial.params for trial in whole.trials]
    assert mine[3].params["x"] == drawn and history(mine[3]) == [3]


def test_trials_of_dead_workers_are_done_again_and_count_once(tmp_path):
    """A worker at its trial holds the folder; one that failed with an error is not done again; all this four times at most."""
    storage, study = _study(tmp_path, objectives=["recall@10"])
    alive, dead = study.ask(), study.ask()
    dead.suggest_float("x", -1, 1)
    failed = study.ask()
    failed.set_user_attr(ERROR, "RuntimeError: no")
    study.tell(failed, state=TrialState.FAIL)
    with Workspace(trial_folder(tmp_path, alive.number)).lock():
        requeue_stale_trials(study, storage, tmp_path)
        requeue_stale_trials(study, storage, tmp_path)  # another worker looks too
        states = [trial.state for trial in study.trials]
        assert states == [TrialState.RUNNING, TrialState.FAIL, TrialState.FAIL, TrialState.WAITING]
        assert [trial.number for trial in counted(study)] == [0, 2]
        for number in (3, 4, 5):  # killed at it again and again
            assert study.ask().number == number
            requeue_stale_trials(study, storage, tmp_path)
        assert len(study.trials) == 6
        assert [trial.number for trial in counted(study)] == [0, 2, 5]
    assert study.trials[5].params == dead.params


def test_the_winner_is_on_the_front(tmp_path):
    """Two objectives: the highest mean place between worst and best; the first of equals; failed trials do not take part."""
    _, study = _study(tmp_path)
    assert winner(study.trials) is None
    for values in ((0.2, 0.1), (0.1, 0.2), (0.16, 0.17), (0.1, 0.1)):
        study.add_trial(optuna.create_trial(values=values, state=TrialState.COMPLETE))
    study.add_trial(optuna.create_trial(state=TrialState.FAIL))
    assert scores(study.trials) == pytest.approx({0: 0.5, 1: 0.5, 2: 0.65, 3: 0.0})
    chosen = winner(study.trials)
    assert chosen.number == 2 and chosen.number in [trial.number for trial in study.best_trials]
    assert winner(study.trials[:2]).number == 0
    for values in ((-0.3, -0.2), (-0.1, -0.1)):  # differences may all be losses
        study.add_trial(optuna.create_trial(values=values, state=TrialState.COMPLETE))
    assert winner(study.trials[-2:]).values == [-0.1, -0.1]


def test_pruning_is_for_one_objective(tmp_path):
    """Optuna does not prune studies of several."""
    assert isinstance(_study(tmp_path / "a")[1].pruner, optuna.pruners.NopPruner)
    weighted = _study(tmp_path / "b", objectives={"recall@10": 0.5, "ndcg@10": 0.5})[1]
    assert isinstance(weighted.pruner, optuna.pruners.MedianPruner) and len(weighted.directions) == 1
    assert isinstance(
        _study(tmp_path / "c", objectives=["ndcg@10"], prune=False)[1].pruner, optuna.pruners.NopPruner
    )


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://me:secret@127.0.0.1:9/none?connect_timeout=2", "nothing://me:secret@there"]
)
def test_a_storage_that_does_not_answer_is_named_without_its_password(tmp_path, url):
    """One message, and no password in it."""
    pytest.importorskip("psycopg")
    with pytest.raises(UserError, match="--storage") as caught:
        open_storage(url, tmp_path, 60)
    assert "secret" not in str(caught.value) and "secret" not in shown(url)
