"""`recgen tune`: an Optuna study of the generators' settings on validation, and one run of the winner on the test split.

A study's folder::

    base.yaml       the configuration that the trials vary, with every default filled in
    journal.log     the study itself, unless a database keeps it
    trials/base     what all trials share; trials/00007 is the run folder of trial 7
    best.yaml       the winner's configuration, which `recgen run` takes
    winner/         its run on the test split, the only one that sees that split
    study.html      history, importances, Pareto front, all trials
    log.txt
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study

from recgen.config.loader import Config, load_config
from recgen.core.errors import UserError
from recgen.core.io import write_bytes
from recgen.core.machine import cores, wait_lock
from recgen.core.remote import on_this_machine
from recgen.pipeline import session
from recgen.tuning.page import build
from recgen.tuning.plots import plots
from recgen.tuning.results import facts
from recgen.tuning.space import contains, own_values, space
from recgen.tuning.study import (
    JOURNAL,
    counted,
    open_storage,
    open_study,
    requeue_stale_trials,
    running,
    scores,
    shown,
    study_lock,
    winner,
)
from recgen.tuning.trial import (
    BASE,
    StudyContext,
    TrialFailedError,
    objective,
    prepare,
    prune_artifacts,
    write_yaml,
)

logger = logging.getLogger("recgen")

_NAME = ".id"  # names the folder, whatever its path is on this machine and on others that share the disk
POLL = 1.0  # seconds between two looks at whether other workers are done
_AT_AN_URL = (
    "Keep the study in a folder: machines that share none share its trials by --storage postgresql://..., and a run of its "
    "best.yaml may be at an URL: recgen run --config .../best.yaml --out URL."
)
_FREE = ("keep", "heartbeat", "study")  # keys of `tune` that may change between two starts of one study


def tune(
    config: str, trials: int, url: str | None, workers: int, out: str | None, overrides: Iterable[str] = ()
) -> None:
    """Bring a study to so many trials, run its winner on the test split and write the report.

    Parameters
    ----------
    config
        As for `recgen run`.
    trials
        How many trials the study shall have in the end, over all workers and all starts. Pruned and failed ones count; those
        whose worker was killed are done again and count once.
    url
        A database's URL, or a path for Optuna's journal; None keeps the journal in the study's folder.
    workers
        Processes to start here; others may be at the same study elsewhere.
    out
        The study's folder; ``runs/<config name>-tune`` by default.
    overrides
        ``KEY=VALUE`` strings with dotted keys.
    """
    root = on_this_machine("--out", out or f"runs/{Path(config).stem}-tune", _AT_AN_URL)
    if root.exists() and not root.is_dir():
        raise UserError(f"--out {root}", found="a file", expected="a folder, or a name that is free")
    root.mkdir(parents=True, exist_ok=True)
    with session.logging_to(root / "log.txt"):
        context = _context(root, load_config(config, overrides), workers)
        storage = open_storage(url, root, context.tune.heartbeat)
        name = context.tune.study or Path(config).stem
        study = _opened(context, storage, name)
        with wait_lock(root / ".base"):
            prepare(context)
        _work(context, storage, name, url, trials, workers)
        _conclude(context, storage, name, study, url)


def _context(root: Path, config: Config, workers: int) -> StudyContext:
    """Write the base configuration, or check that the study of this folder was begun with the same one."""
    path = root / BASE
    with wait_lock(root / ".base"):
        if not path.exists():
            threads = config.settings.threads or max(1, cores() // workers)
            settings = config.settings.model_copy(update={"threads": threads})
            space(config)  # its mistakes are named after the file that the user gave
            write_bytes(root / _NAME, f"{uuid4().hex}\n".encode())
            write_yaml(path, replace(config, settings=settings))
    base = load_config(str(path))
    changed = _differences(_identity(base), _identity(config))
    if config.settings.threads is None:
        changed = [key for key in changed if key != "recgen.threads"]
    if changed:
        raise UserError(
            str(root),
            found=f"a study that was begun with another {', '.join(changed[:5])}",
            expected="the settings it was begun with: trials of different ones cannot be compared",
            todo="Give another folder with --out, or delete this one.",
        )
    return _with_free(
        root, replace(base, source=config.source), {key: getattr(config.settings.tune, key) for key in _FREE}
    )


def _with_free(root: Path, base: Config, free: dict[str, Any]) -> StudyContext:
    """Return what all trials have in common, with the keys that may change as they are now."""
    settings = base.settings.model_copy(update={"tune": base.settings.tune.model_copy(update=free)})
    return StudyContext(root, replace(base, settings=settings), space(base))


def _identity(config: Config) -> dict[str, Any]:
    """Return what trials must have in common, by dotted key."""
    flat: dict[str, Any] = {}

    def walk(value: Any, key: str) -> None:
        if isinstance(value, dict) and value:
            for name, below in value.items():
                walk(below, f"{key}.{name}" if key else str(name))
        else:
            flat[key] = value

    walk(config.resolved(), "")
    return {key: value for key, value in flat.items() if key not in {f"recgen.tune.{name}" for name in _FREE}}


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def _opened(context: StudyContext, storage: BaseStorage, name: str) -> Study:
    """Open the study; one of this name in a shared storage must have been begun with the same configuration."""
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    with study_lock(storage, context.root, name):
        study = open_study(storage, name, context.tune, context.config.settings.seed)
        mine = {key: value for key, value in _identity(context.config).items() if key != "recgen.threads"}
        begun = study.user_attrs.get("base")
        if begun is None:
            start = own_values(context.config, context.space)
            if contains(context.space, start):
                study.enqueue_trial(
                    start
                )  # so that the winner is never worse than what there was, and is compared with it
            study.set_user_attr("base", mine)
        elif changed := _differences(begun, mine):
            raise UserError(
                f"study {name!r} in its storage",
                found=f"one that was begun with another {', '.join(changed[:5])}",
                expected="the same settings: trials of different ones cannot be compared",
                todo="Name another with --set recgen.tune.study=NAME.",
            )
    return study


def _work(
    context: StudyContext, storage: BaseStorage, name: str, url: str | None, trials: int, workers: int
) -> None:
    """Let one worker do its trials here, or several in processes of their own."""
    if workers == 1:
        work(context, storage, name, trials)
        return
    spawn = multiprocessing.get_context("spawn")
    free = {key: getattr(context.tune, key) for key in _FREE}
    arguments = (str(context.root), name, url, trials, free)
    started = [spawn.Process(target=_worker, args=arguments) for _ in range(workers)]
    for process in started:
        process.start()
    try:
        for process in started:
            process.join()
    finally:  # interrupted; their trials are done again
        for process in started:
            process.kill()
    ended = [process.exitcode for process in started if process.exitcode]
    if ended:
        logger.warning(
            "%d of %d workers ended before the study did (exit codes %s)", len(ended), workers, ended
        )
    if len(
        counted(study := open_study(storage, name, context.tune, context.config.settings.seed))
    ) < trials or running(study):
        raise RuntimeError(f"all workers ended before {trials} trials were done; the same command goes on")


def _worker(root: str, name: str, url: str | None, trials: int, free: dict[str, Any]) -> None:
    """The body of a worker's process, which reads for itself what the others read and ends with the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the other process decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    context = _with_free(Path(root), load_config(str(Path(root) / BASE)), free)
    try:
        with session.logging_to(Path(root) / "log.txt"):
            work(context, open_storage(url, context.root, context.tune.heartbeat), name, trials)
    except UserError as error:
        sys.exit(f"recgen: {error}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def work(context: StudyContext, storage: BaseStorage, name: str, trials: int) -> None:
    """Do trials until the study has as many as are wanted and nobody is at one any more.

    A worker that is done waits for the others: should one of them be killed, its trial is to be done again.
    """
    study = open_study(storage, name, context.tune, context.config.settings.seed)
    while True:
        with ExitStack() as turns:
            turns.enter_context(study_lock(storage, context.root, name))
            requeue_stale_trials(study, storage, context.root)
            _prune(context, study)
            if len(counted(study)) < trials:
                todo = partial(objective, context=context, turns=turns)
                study.optimize(todo, n_trials=1, catch=(TrialFailedError,), gc_after_trial=True)
                continue
            if not running(study):
                return
        time.sleep(POLL)


def _prune(context: StudyContext, study: Study) -> None:
    trials = counted(study)  # what the worker of a trial left that is done again is not for this to remove
    found = scores(trials)
    best = sorted(found, key=lambda number: (-found[number], number))
    latest = [
        trial.number for trial in reversed(trials) if trial.state.is_finished() and trial.number not in found
    ]
    prune_artifacts(context.root, trials, set([*best, *latest][: context.tune.keep]))


def _conclude(context: StudyContext, storage: BaseStorage, name: str, study: Study, url: str | None) -> None:
    """Run the winner on the test split, once, and write the report."""
    where = str(context.root / JOURNAL) if url is None else shown(url) if "://" in url else url
    mine = (context.root / _NAME).read_text().strip()
    _prune(context, study)
    with study_lock(storage, context.root, name):
        best = winner(study.trials)
        if best is None:
            report = _report(context, study, where)
            failed = len(counted(study))
            raise RuntimeError(f"none of {failed} trials was completed; {report} has their errors")
        claimed = study.user_attrs.get("winner")
        if claimed is None:
            claimed = {"trial": best.number, "folder": str(context.root.resolve()), "id": mine}
            study.set_user_attr("winner", claimed)
    if claimed["id"] == mine:
        params = study.trials[claimed["trial"]].params
        path = context.root / "best.yaml"
        with wait_lock(context.root / ".winner"):
            write_yaml(path, context.variant(params, "test"))
            session.run(str(path), str(context.root / "winner"), ())
    else:
        logger.info("The winner, trial %d, was run elsewhere: %s", claimed["trial"], claimed["folder"])
    if claimed["trial"] != best.number:
        logger.info(
            "Trial %d is better on validation than trial %d, whose run on the test split is in %s. A second look at that split "
            "would choose by it; trials/%05d/config.yaml has the new settings.",
            best.number, claimed["trial"], Path(claimed["folder"]) / "winner", best.number,
        )  # fmt: skip
    logger.info("Study: %s", _report(context, study, where))
    logger.info("Dashboard: optuna-dashboard %s", where)


def _report(context: StudyContext, study: Study, where: str) -> Path:
    """Write the study's page; `where` is the storage as users know it."""
    found = facts(study, context, where)
    return build(context.root, found, plots(study, found))
