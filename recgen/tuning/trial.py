"""One trial: the base configuration with the trial's values, run up to what the objectives ask for, on validation.

Trials are runs like any other, in folders of their own. What another trial or the base run has finished already is taken over
from there (`recgen.pipeline.cache`), so that a trial does only what its values touch.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from optuna import Trial, TrialPruned
from optuna.trial import FrozenTrial, TrialState

from recgen.config.loader import Config, load_config
from recgen.config.tune import Tune
from recgen.core.errors import UserError, brief, of_machine
from recgen.core.io import write_bytes
from recgen.metrics.comparison import SWAPPED, net_of_swapped
from recgen.pipeline import pipeline, preflight
from recgen.pipeline.cache import ArtifactCache
from recgen.pipeline.context import RunContext
from recgen.pipeline.downstream import reranks
from recgen.pipeline.session import logging_to
from recgen.pipeline.task import Task
from recgen.pipeline.tasks import tasks
from recgen.pipeline.workspace import Workspace
from recgen.stages.downstream import METRICS
from recgen.tuning import objectives
from recgen.tuning.space import Space, suggest, tuned
from recgen.tuning.study import ERROR, history, trial_folder

logger = logging.getLogger("recgen")

BASE = "base.yaml"
CREATIVES = ("creatives", "downstream/creatives")
_BULKY = ("generator", "dataset", "features", "ranker", "recbole", "simulated", "market")


@dataclass(frozen=True)
class StudyContext:
    """What all trials of a study have in common.

    Attributes
    ----------
    root
        The study's folder; it holds the base configuration.
    config
        The base configuration.
    space
        What is tried.
    """

    root: Path
    config: Config
    space: Space

    @property
    def tune(self) -> Tune:
        """The configuration's `tune` block."""
        return self.config.settings.tune

    def variant(self, values: dict[str, Any], target: str) -> Config:
        """Return the base configuration with values by key below `recgen:`, about ``validation`` or ``test``."""
        overrides = [
            f"recgen.{key}={json.dumps(value)}" for key, value in {**values, "eval_split": target}.items()
        ]
        return replace(load_config(str(self.root / BASE), overrides), source=self.config.source)

    def measured(self, values: dict[str, Any]) -> Config:
        """Return the configuration of a trial: of the generators that are tuned alone, all of them measured."""
        shown = {"generators": tuned(self.config), "downstream.generators": None}
        return self.variant({**values, **objectives.changes(self.tune), **shown}, "validation")


def prepare(context: StudyContext) -> None:
    """Do what all trials share: everything before the generators, and the retrainings on the original images."""
    run = RunContext(context.measured({}), context.root / "trials/base")
    with run.workspace.lock(), logging_to(run.folder / "log.txt"):
        run.write_config()
        work = tasks(run)
        prints = pipeline.fingerprints(work, run.settings.seed)
        wanted = pipeline.needed(
            work,
            [*objectives.goals(run), *(name for turn in range(_draws(run)) for name in goals(run, turn))],
        )
        left = [
            task
            for task in work
            if task.name in wanted and not run.workspace.finished(task.name, prints[task.name])
        ]
        preflight.check(run, {task.stage for task in left})  # for the trials too: each of them would fail
        pipeline.execute(run, goals=[name for name in wanted if not _of_a_generator(work, name)])


def _of_a_generator(work: list[Task], name: str) -> bool:
    """Return whether a task does or comes after anything that a generator's settings change."""
    behind = pipeline.needed(work, [name])
    return any(task.stage in ("generator.fit", "generate") for task in work if task.name in behind)


def _draws(run: RunContext) -> int:
    """Return how many draws of the downstream stage the objectives ask for."""
    return run.settings.downstream.seeds if set(run.settings.tune.objectives) & set(METRICS) else 0


def goals(run: RunContext, turn: int) -> list[str]:
    """Return the tasks whose results are what `recgen.tune.measure` asks for, for one draw.

    Raises
    ------
    UserError
        Where the downstream stage does not do them.
    """
    reranked = run.settings.tune.measure == "reranked"
    if not (reranks(run.settings) if reranked else run.settings.downstream.items):
        raise UserError(
            f"{run.config.source}: recgen.tune.measure",
            found=f"{run.settings.tune.measure}, which this run's downstream stage leaves out",
            expected="recgen.downstream.rerank, with controls"
            if reranked
            else "recgen.downstream.items above 0",
        )
    if reranked:
        return [f"downstream/reranked/{turn}"]
    return [
        f"downstream/{source}/{turn}"
        for name in run.settings.generators
        for source in (name, f"{SWAPPED}{name}")
    ]


class TrialFailedError(Exception):
    """A trial that could not be measured, for a reason of its own: what it was is its `__cause__`."""


def objective(trial: Trial, context: StudyContext, turns: ExitStack) -> list[float]:
    """Run one trial and return its value for each objective.

    Parameters
    ----------
    trial
        Optuna's trial, just drawn.
    setting
        The study's.
    turns
        The turn in which the trial was drawn; it ends as soon as the trial's folder is held.

    Raises
    ------
    TrialFailedError
        Where the trial counts as failed.
    UserError
        Where the disk is full or memory short, for which no trial can be blamed: it is done again by the next start.
    """
    folder = trial_folder(context.root, trial.number)
    _inherit(context.root, history(trial.study.trials[trial.number]), folder)
    started = time.perf_counter()
    with Workspace(folder).lock(), logging_to(folder / "log.txt"):
        turns.close()
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
        values = suggest(trial, context.space)
        logger.info(
            "trial %d: %s", trial.number, ", ".join(f"{key} {shown(value)}" for key, value in values.items())
        )
        try:
            return _measure(trial, context, RunContext(context.measured(values), folder))
        except TrialPruned:
            logger.info("trial %d: pruned", trial.number)
            raise
        except Exception as error:
            if (short := of_machine(error)) is not None:
                raise short from error
            logger.exception("trial %d: failed", trial.number)
            trial.set_user_attr(ERROR, brief(error))
            raise TrialFailedError from error
        finally:
            trial.set_user_attr("seconds", round(time.perf_counter() - started, 1))


def _inherit(root: Path, before: list[int], folder: Path) -> None:
    """Go on in the folder of the worker that was killed at this trial, so that nothing it had finished is lost."""
    if before and (old := trial_folder(root, before[-1])).exists() and not Workspace(old).busy():
        old.rename(folder)


def _measure(trial: Trial, context: StudyContext, run: RunContext) -> list[float]:
    """Measure what is measured once, then draw by draw; after each, a study with one objective may end a bad trial."""
    run.write_config()
    cache = ArtifactCache(context.root / "trials")
    done: list[str] = []
    found: list[dict[str, float]] = []
    if once := objectives.goals(run):
        done += pipeline.execute(run, goals=once, cache=cache)
    means = objectives.values(run)
    for seed in range(_draws(run)):
        done += pipeline.execute(run, goals=goals(run, seed), cache=cache)
        found.append(_results(run, seed))
        means |= {name: float(np.mean([each[name] for each in found])) for name in METRICS}
        values = weighed(means, context.tune)
        if len(values) == 1:
            trial.set_user_attr("tasks", done)
            trial.report(values[0], seed)
            if trial.should_prune():
                raise TrialPruned
    trial.set_user_attr("tasks", done)
    for name, value in means.items():
        trial.set_user_attr(name, value)
    trial.set_user_attr("seeds", {name: [each[name] for each in found] for name in METRICS if found})
    told = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
    logger.info("trial %d: %s; %d tasks done", trial.number, told, len(done))
    return weighed(means, context.tune)


def _results(run: RunContext, turn: int) -> dict[str, float]:
    """Return each metric's mean over the generators of own creatives less other users', in one draw."""
    if run.settings.tune.measure == "reranked":
        table = pd.read_parquet(run.folder / f"downstream/reranked/{turn}.parquet")
    else:
        paths = {name.split("/")[1]: run.folder / name / "users.parquet" for name in goals(run, turn)}
        table = pd.concat([pd.read_parquet(path).assign(source=source) for source, path in paths.items()])
    names = run.settings.generators
    return {key: float(np.mean([net_of_swapped(table, name, key) for name in names])) for key in METRICS}


def weighed(means: dict[str, float], settings: Tune) -> list[float]:
    """Return the objectives' values: one for each, or their weighted sum."""
    if isinstance(settings.objectives, dict):
        return [sum(weight * means[name] for name, weight in settings.objectives.items())]
    return [means[name] for name in settings.objectives]


def prune_artifacts(root: Path, trials: list[FrozenTrial], kept: set[int]) -> None:
    """Remove what finished trials need not keep, so that a long study does not fill the disk.

    Complete ones among `kept` keep all. Pruned and failed ones among them keep what others may take over: all but the images
    and the retrained judges, which belong to their values alone. The rest keep log, configuration and results.
    """
    for trial in trials:
        folder, here = trial_folder(root, trial.number), trial.number in kept
        if not trial.state.is_finished() or (here and trial.state is TrialState.COMPLETE):
            continue
        names = CREATIVES if here else (*_BULKY, *CREATIVES)
        bulky = [folder / name for name in names] + list(folder.glob("downstream/*/*/*.safetensors"))
        bulky = [path for path in bulky if path.exists()]
        if bulky and not Workspace(folder).busy():
            for path in bulky:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_yaml(path: Path, config: Config) -> None:
    """Write a configuration with every default filled in."""
    text = yaml.safe_dump(config.resolved(), sort_keys=False, allow_unicode=True)
    write_bytes(path, text.encode())


def shown(value: Any) -> str:
    """Return a value of the search space as people write it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
