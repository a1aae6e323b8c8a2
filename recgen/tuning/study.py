"""The Optuna study: where it is kept, how trials are drawn, counted, given up and drawn again.

Any number of workers may be at one study, each started at any time and killed at any time. What they agree on goes through the
study's storage, and through `study_lock`, which lets one worker at a time take a trial.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import (
    BaseStorage,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
    fail_stale_trials,
)
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from recgen.config.tune import Tune
from recgen.core.errors import UserError
from recgen.core.machine import wait_lock
from recgen.core.seeding import seed_for
from recgen.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

JOURNAL = "journal.log"
POSTGRES = "postgresql"  # what SQLAlchemy calls it
ATTEMPTS = 4  # workers that a trial may outlive before it counts as failed itself
ERROR = "error"  # the user attribute of a trial that failed, and was not merely left by a worker that ended

warnings.filterwarnings(
    "ignore", category=ExperimentalWarning
)  # heartbeats have been experimental in Optuna since 2021


def trial_folder(root: Path, number: int) -> Path:
    """Return the run folder of a trial."""
    return root / "trials" / f"{number:05d}"


def open_storage(url: str | None, root: Path, heartbeat: int) -> BaseStorage:
    """Open where a study is kept: a journal in its folder or at a path, or a database by its URL."""
    if url is None or "://" not in url:
        path = root / JOURNAL if url is None else Path(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

    try:
        # One at a time: two that make the tables of a new database at once end in an error of it (Optuna issue 1092).
        # A connection that the server has closed in the hours of a trial is noticed, and opened again.
        with _database_turn(create_engine(url, poolclass=NullPool), "tables"):
            return RDBStorage(
                url,
                engine_kwargs={"pool_pre_ping": True},
                heartbeat_interval=heartbeat,
                grace_period=3 * heartbeat,
            )
    except ImportError as error:
        raise UserError(
            f"--storage {shown(url)}",
            found=f"no driver for it ({error})",
            expected="one that is installed",
            todo="For PostgreSQL: pip install 'recgen[postgres]'.",
        ) from error
    except (ArgumentError, NoSuchModuleError, OperationalError) as error:
        found = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        expected = "a database that answers, as in postgresql+psycopg://user:password@host/name"
        raise UserError(f"--storage {shown(url)}", found=found, expected=expected) from error


def shown(url: str) -> str:
    """Return a storage's URL without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.rpartition("@")[2]


def open_study(storage: BaseStorage, name: str, settings: Tune, seed: int) -> Study:
    """Open the study, or make it."""
    single = isinstance(settings.objectives, dict) or len(settings.objectives) == 1
    pruner: BasePruner = NopPruner()
    if settings.prune and single:
        pruner = MedianPruner(n_startup_trials=max(1, settings.startup_trials // 2))
    return optuna.create_study(
        storage=storage,
        sampler=SeededTPE(seed, settings.startup_trials),
        pruner=pruner,
        study_name=name,
        directions=["maximize"] * (1 if single else len(settings.objectives)),
        load_if_exists=True,
    )


class SeededTPE(BaseSampler):
    """TPE with a random state for each trial, from the run's seed and the trial's place among all.

    Optuna keeps a sampler's random state in memory only, so that a study that is taken up again would draw other values than one
    that was never stopped. Here what is drawn follows from the seed and the trials before: one worker always draws the same.
    """

    def __init__(self, seed: int, startup_trials: int) -> None:
        self.seed, self.startup_trials = seed, startup_trials

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Start the trial's own random state."""
        seed = seed_for(self.seed, "tune", str(place(study, trial))) % 2**32
        self._tpe = TPESampler(seed=seed, n_startup_trials=self.startup_trials)
        self._tpe.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As TPE."""
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As TPE."""
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As TPE."""
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """As TPE."""
        TPESampler(seed=0).after_trial(study, trial, state, values)


def place(study: Study, trial: FrozenTrial) -> int:
    """Return the trial's number as it would be had no worker ever been killed."""
    number = (history(trial) or [trial.number])[0]
    return number - sum(other < number for other in left(study))


def history(trial: FrozenTrial) -> list[int]:
    """Return the numbers of the trials whose workers were killed and that this one does again."""
    return RetryHeartbeatStaleTrialCallback.retry_history(trial)


def left(study: Study) -> set[int]:
    """Return the numbers of all trials that another does again."""
    return {number for trial in study.get_trials(deepcopy=False) for number in history(trial)}


def counted(study: Study) -> list[FrozenTrial]:
    """Return the trials that count: begun, and not done again by another."""
    again = left(study)
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state is not TrialState.WAITING and trial.number not in again]


def running(study: Study) -> list[FrozenTrial]:
    """Return the trials that somebody is at, or was when it ended."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def requeue_stale_trials(study: Study, storage: BaseStorage, root: Path) -> None:
    """Put the trials of workers that are no more into the queue again, with the values they had.

    A worker holds the lock of its trial's folder, which the system takes away when it ends, however it ends. Workers on a
    database may be on machines without a common disk; they leave signs of life there instead.
    """
    if isinstance(storage, RDBStorage):
        fail_stale_trials(study)
    else:
        for trial in running(study):
            if not Workspace(trial_folder(root, trial.number)).busy():
                study.tell(trial.number, state=TrialState.FAIL)
    again, do_again = left(study), RetryHeartbeatStaleTrialCallback(max_retry=ATTEMPTS - 1)
    for trial in study.get_trials(
        states=(TrialState.FAIL,)
    ):  # copies: the callback writes into the trial it is given
        if ERROR not in trial.user_attrs and trial.number not in again:
            do_again(study, trial)


@contextmanager
def study_lock(storage: BaseStorage, root: Path, name: str) -> Iterator[None]:
    """Wait until no other worker of the study is inside: by PostgreSQL where that keeps the study, else by a file."""
    if isinstance(storage, RDBStorage) and storage.engine.dialect.name == POSTGRES:
        with _database_turn(storage.engine, f"study {name}"):
            yield
    else:
        with wait_lock(root / ".turn"):
            yield


@contextmanager
def _database_turn(engine: Engine, name: str) -> Iterator[None]:
    """Wait until nobody else is inside on the same PostgreSQL database; other databases have no such lock, and let all in."""
    if engine.dialect.name != POSTGRES:
        yield
        return
    from sqlalchemy import text

    key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
        yield


def scores(trials: Sequence[FrozenTrial]) -> dict[int, float]:
    """Return one number for each completed trial, by its number; the highest is the winner's.

    With one objective that is its value. With two it is the mean of where each value lies between the worst of all trials, 0,
    and the best, 1. The highest always lies on the Pareto front.
    """
    done = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if not done or len(done[0].values) == 1:
        return {trial.number: trial.values[0] for trial in done}
    columns = list(zip(*(trial.values for trial in done), strict=True))
    worst, width = [min(each) for each in columns], [max(each) - min(each) or 1.0 for each in columns]
    return {
        trial.number: sum(
            (value - low) / size for value, low, size in zip(trial.values, worst, width, strict=True)
        )
        / len(worst)
        for trial in done
    }


def winner(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return the trial of the highest score, the first of several; None where none is complete."""
    found = scores(trials)
    if not found:
        return None
    number = max(found, key=lambda number: (found[number], -number))
    return next(trial for trial in trials if trial.number == number)
