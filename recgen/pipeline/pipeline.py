"""The loop that runs the tasks of a run: one whose fingerprint is on record is skipped; see `recgen.pipeline.workspace`."""

from __future__ import annotations

import gc
import logging
from collections.abc import Collection
from contextlib import nullcontext
from pkgutil import resolve_name

from recgen.core.errors import UserError, nearest
from recgen.core.io import digest
from recgen.core.usage import Usage
from recgen.core.version import __version__
from recgen.pipeline import preflight, records
from recgen.pipeline.cache import ArtifactCache
from recgen.pipeline.context import RunContext
from recgen.pipeline.side_by_side import SideBySide
from recgen.pipeline.task import Task
from recgen.pipeline.tasks import STAGES, tasks
from recgen.planning.clock import Clock

logger = logging.getLogger("recgen")


def execute(
    run: RunContext,
    until: str | None = None,
    force: str | None = None,
    goals: Collection[str] | None = None,
    cache: ArtifactCache | None = None,
    clock: Clock | None = None,
    workers: int = 1,
) -> list[str]:
    """Run what is not done yet, in order, and return the names of the tasks that ran.

    Parameters
    ----------
    run
        The run, whose folder the caller has locked.
    until
        The last stage to run; None runs all.
    force
        A stage to do again, with everything that comes after it.
    goals
        Names of tasks: only they and what they come after are done; None means all.
    cache
        Runs that may have done a task already, from which it is then taken over.
    clock
        Says at the start of each task how long the rest will take, and learns from what each took.
    workers
        Processes for tasks that do not need each other, see `recgen.pipeline.side_by_side`; with one, or a `cache`, everything
        is done in this process.
    """
    work = tasks(run)
    wanted = needed(work, goals)
    check_stages(until, force)
    last = len(STAGES) if until is None else STAGES.index(until)
    prints = fingerprints(work, run.settings.seed)
    for name in _with_followers(work, force):
        run.workspace.forget(name)
    done = []
    asked = [task for task in work if STAGES.index(task.stage) <= last and task.name in wanted]
    left = [task for task in asked if not run.workspace.finished(task.name, prints[task.name])]
    stages = {task.stage for task in left}
    # Up to the first task that is left nothing changes, so that what was found there a moment ago still holds.
    asked = asked[asked.index(left[0]) :] if left else []
    several = workers > 1 and len(left) > 1
    if cache is None and left and (several or run.settings.ray is not None):
        run.inputs.bring()  # for processes on this machine, of which none has to look again
        return SideBySide(run, asked, prints, clock).execute(workers, stages)
    preflight.check(run, stages)
    try:
        for task in asked:
            fingerprint = prints[task.name]
            if run.workspace.finished(task.name, fingerprint):
                continue
            run.models.release(*records.models(run, task))
            with nullcontext() if cache is None else cache.lock(fingerprint):
                elsewhere = cache and cache.take(run.workspace, task.name, fingerprint, task.owns)
                if elsewhere:
                    logger.info("%s: taken from %s", task.name, elsewhere)
                    if clock is not None:
                        clock.taken(task.name)
                else:
                    _do(run, task, fingerprint, clock)
                    done.append(task.name)
            if task.stage in ("dataset", "features"):
                run.clear_cache()
    finally:
        gc.unfreeze()  # what `Models.release` has set aside: the program that called goes on
    return done


def plan(
    run: RunContext,
    work: list[Task],
    until: str | None = None,
    force: str | None = None,
    cache: ArtifactCache | None = None,
) -> list[tuple[str, bool]]:
    """Return the names of the tasks that `execute` would look at, in order, and whether each is done already; change nothing.

    `work` is all of the run's, as `recgen.pipeline.tasks.tasks` lists it. What a run of the `cache` has finished counts as done:
    it is taken over from there.
    """
    check_stages(until, force)
    last = len(STAGES) if until is None else STAGES.index(until)
    prints = fingerprints(work, run.settings.seed)
    again = set(_with_followers(work, force))

    def done(name: str) -> bool:
        own = name not in again and run.workspace.finished(name, prints[name])
        return own or (cache is not None and cache.has(run.workspace, name, prints[name]))

    return [(task.name, done(task.name)) for task in work if STAGES.index(task.stage) <= last]


def _do(run: RunContext, task: Task, fingerprint: str, clock: Clock | None) -> None:
    usage = Usage()
    records.begin(run, task, fingerprint, clock)
    run.prepare_torch()
    outputs = resolve_name(task.call)(run, *task.arguments)
    records.finish(run, task, fingerprint, usage.report(), outputs, clock)


def fingerprints(work: list[Task], seed: int) -> dict[str, str]:
    """Return each task's fingerprint: of what it reads and, through those before it, of everything behind that."""
    found: dict[str, str] = {}
    for task in work:
        behind = [found[name] for name in task.after]
        found[task.name] = digest([__version__, task.name, task.reads, seed, behind])
    return found


def check_stages(until: str | None, force: str | None) -> None:
    """Raise `UserError` where ``--until`` or ``--force`` names no stage."""
    for option, name in (("--until", until), ("--force", force)):
        if name is not None and name not in STAGES:
            raise UserError(
                f"{option} {name}",
                found="no such stage",
                expected=", ".join(STAGES),
                todo=nearest(name, STAGES),
            )


def needed(work: list[Task], goals: Collection[str] | None) -> set[str]:
    """Return the names of the goals and of all tasks that they come after; without goals, of all."""
    wanted = {task.name for task in work} if goals is None else set(goals)
    for task in reversed(work):
        if task.name in wanted:
            wanted.update(task.after)
    return wanted


def _with_followers(work: list[Task], stage: str | None) -> list[str]:
    """Return the names of a stage's tasks and of all tasks that come after one of them; none without a stage."""
    chosen: set[str] = set()
    for task in work:
        if task.stage == stage or chosen & set(task.after):
            chosen.add(task.name)
    return sorted(chosen)
