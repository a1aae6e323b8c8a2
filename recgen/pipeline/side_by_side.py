"""Tasks that do not need each other, done side by side in processes of their own; this process alone keeps the records."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from recgen.core.errors import UserError
from recgen.pipeline import records
from recgen.pipeline.models import NAMES
from recgen.pipeline.pool import Lost, Pool, Worker
from recgen.pipeline.task import Task
from recgen.pipeline.tasks import STAGES
from recgen.pipeline.worker import Done, Order
from recgen.planning.schedule import urgency

if TYPE_CHECKING:
    from recgen.pipeline.context import RunContext
    from recgen.planning.clock import Clock

logger = logging.getLogger("recgen")

_TRIES = 3  # processes that may end in the middle of one task
_KILLED = "signal 9"  # what the system does to a process when memory is short
_LIBRARIES = {
    "features": "recgen.features.encoders",
    "ranker": "ranking_models.trainer",
    "generator.fit": "recgen.diffusion.backbone",
    "generate": "recgen.diffusion.backbone",
    "evaluate": "recgen.features.encoders",
    "report": "recgen.report",
}
"""By stage the module with which its tasks read what takes seconds to read."""


def waits(work: Sequence[Task]) -> dict[str, tuple[str, ...]]:
    """Return, by task, the names of those that have to be done before it is begun.

    These are more than those whose results change it: what a stage is given holds what all generators of the run ask for, such as
    captions; and what checks the user's files comes before anything is trained.
    """
    found = {}
    for place, task in enumerate(work):
        stage = STAGES.index(task.stage)
        ahead = {"dataset"} if stage > STAGES.index("features") else set()
        ahead |= {"features"} if stage > STAGES.index("ranker") else set()
        ahead |= {"ranker"} if task.stage == "market" else set()
        ahead |= set(STAGES) if task.stage == "report" else set()
        before = [each.name for each in work[:place] if each.stage in ahead]
        found[task.name] = tuple(dict.fromkeys([*task.after, *before]))
    return found


class SideBySide:
    """Does tasks of a run in several processes.

    Parameters
    ----------
    run
        The run, whose folder the caller has locked.
    work
        The tasks to look at, each after those that it comes after.
    prints
        Fingerprints by name.
    clock
        As of `recgen.pipeline.pipeline.execute`.
    """

    def __init__(
        self,
        run: RunContext,
        work: Sequence[Task],
        prints: Mapping[str, str],
        clock: Clock | None,
    ) -> None:
        self._run, self._prints, self._clock = run, prints, clock
        self._waits = waits(work)
        self._urgency = urgency(self._waits, {} if clock is None else clock.estimates)
        self._left = {task.name: task for task in work}  # not begun
        self._at: dict[
            Worker, tuple[Task, bool]
        ] = {}  # and whether it is a share of what another process is at
        self._exhausted: set[str] = set()  # tasks of which no share is to be had
        self._lost: Counter[str] = Counter()
        self._changes = 0  # of the data and the features
        self._told: dict[Worker, int] = {}  # of how many a process knows
        self._read: defaultdict[Worker, set[str]] = defaultdict(
            set
        )  # libraries, while there was nothing to do

    def execute(self, workers: int, stages: Collection[str]) -> list[str]:
        """Do what is not done yet and return the names of the tasks that ran, in the order in which they ended.

        Parameters
        ----------
        workers
            How many processes there may be; one where networks run on a GPU and the configuration leaves it to the machine.
        stages
            Those in which something is left to do, which are checked before anything is begun.
        """
        done: list[str] = []
        with self._pool(workers) as pool:
            self._check(pool, workers, stages)
            workers = pool.limit(workers)
            for worker in pool.workers[workers:]:
                pool.end(worker)
            while self._give_out(pool, workers):
                worker, result = pool.result()
                task, shares = self._at.pop(worker, (None, False))
                if isinstance(result, Lost):
                    workers = self._lose(pool, worker, task, shares, result, workers)
                elif task is not None and shares:
                    self._exhausted |= set() if result.value else {task.name}
                elif task is not None:
                    self._finish(pool, task, result)
                    done.append(task.name)
        return done

    def _pool(self, workers: int) -> Pool:
        """Return the processes, or with ``engine: ray`` the actors, that do the tasks."""
        engine = self._run.settings.ray
        if engine is None:
            return Pool(self._run)
        from recgen.pipeline.ray_pool import RayPool

        return RayPool(self._run, engine, workers)

    def _check(self, pool: Pool, workers: int, stages: Collection[str]) -> None:
        """Find out, where torch is loaded anyhow, whether everything is here that the stages read.

        The second process, where there may be one, is started beside the first: while the first tasks are done, of which one
        needs the other, it has nothing to do but to get ready.
        """
        for _ in range(_TRIES):
            first = pool.start()
            pool.give(first, "", Order("recgen.pipeline.preflight:check", (frozenset(stages),)))
            if len(pool.workers) < workers and pool.has_room():
                pool.start()
            worker, result = pool.result()
            while worker is not first:  # which ended as soon as it was started
                worker, result = pool.result()
            if not isinstance(result, Lost):
                return
        raise UserError(
            "recgen.workers",
            found=f"processes that ended by {result} as soon as they were started",
            expected="processes that live until they are done",
            todo="Where memory is short, set it to 1.",
        )

    def _give_out(self, pool: Pool, workers: int) -> bool:
        """Give processes that have nothing to do the most urgent tasks that can be begun, or shares of those that are under way.

        Those that are left read libraries of the tasks that come next. Return whether there is anything to wait for.
        """
        for task in self._ready():
            if (free := self._free(pool, workers)) is not None:
                self._begin(pool, free, task, shares=False)
        for task in cycle(self._to_share()):  # of those that have just been begun too, until nobody is idle
            if (free := self._free(pool, workers)) is None:
                break
            self._begin(pool, free, task, shares=True)
        for idle in pool.idle:
            if unread := [module for module in self._next_libraries() if module not in self._read[idle]]:
                self._read[idle].add(unread[0])
                pool.give(
                    idle, "", Order("recgen.pipeline.worker:read_library", (unread[0],), frozenset(NAMES))
                )
        reading = len(pool.idle) < len(pool.workers) - len(self._at)
        return bool(self._at) or (
            reading and bool(self._left)
        )  # what is left may wait for a process that reads

    def _next_libraries(self) -> list[str]:
        """Return the libraries of the tasks that come next: that wait for none that has to be begun and has a library itself.

        Those of later tasks are not read yet, so that a process is seldom at it when a task can be begun.
        """
        first = {task.name for task in self._left.values() if task.stage in _LIBRARIES}
        coming = [task for name, task in self._left.items() if first.isdisjoint(self._waits[name])]
        return [_LIBRARIES[task.stage] for task in coming if task.stage in _LIBRARIES]

    def _free(self, pool: Pool, workers: int) -> Worker | None:
        """Return a process that has nothing to do, of several the one that has read most libraries; None where there is none.

        One more is started where there may be.
        """
        if pool.idle:
            return max(pool.idle, key=lambda worker: len(self._read[worker]))
        return pool.start() if len(pool.workers) < workers and pool.has_room() else None

    def _ready(self) -> list[Task]:
        """Return the tasks that can be begun, the most urgent one first."""
        while True:
            ahead = {*self._left, *(task.name for task, shares in self._at.values() if not shares)}
            found = [task for name, task in self._left.items() if ahead.isdisjoint(self._waits[name])]
            finished = [
                task for task in found if self._run.workspace.finished(task.name, self._prints[task.name])
            ]
            for task in finished:
                del self._left[task.name]
            if not finished:
                return sorted(found, key=lambda task: -self._urgency[task.name])

    def _to_share(self) -> list[Task]:
        """Return tasks under way of which another process may take a share, those with the most to do first."""
        found = {task.name: task for task, shares in self._at.values() if task.share and not shares}
        return sorted(
            (task for task in found.values() if task.name not in self._exhausted),
            key=lambda task: -self._urgency[task.name],
        )

    def _begin(self, pool: Pool, worker: Worker, task: Task, shares: bool) -> None:
        if not shares:
            del self._left[task.name]
            pool.clear()
            records.begin(self._run, task, self._prints[task.name], self._clock)
        anew = self._told.get(worker) != self._changes
        self._told[worker] = self._changes
        self._at[worker] = task, shares
        kept = records.models(self._run, task)
        pool.give(worker, task.name, Order(task.share if shares else task.call, task.arguments, kept, anew))

    def _finish(self, pool: Pool, task: Task, result: Done) -> None:
        pool.clear()
        self._changes += task.stage in ("dataset", "features")
        records.finish(self._run, task, self._prints[task.name], result.used, result.value, self._clock)

    def _lose(
        self, pool: Pool, worker: Worker, task: Task | None, shares: bool, how: Lost, workers: int
    ) -> int:
        """Take note that a process has ended, and return how many there may be from now on."""
        homeless = (
            bool(pool.workers) and not worker.ready
        )  # as an actor is whose node is gone; no task's doing
        if homeless:
            workers = len(pool.workers)
        if task is None:
            return workers
        if shares:
            if not homeless:
                self._exhausted.add(task.name)
            return workers
        self._lost[task.name] += not homeless
        if self._lost[task.name] == _TRIES:
            raise UserError(
                task.name,
                found=f"the process that did it ended by {how}, {_TRIES} times",
                expected="one that lives until the task is done",
                todo="Where memory is short, lower recgen.workers; what is finished is not done again.",
            )
        self._left[task.name] = task
        pool.clear()
        logger.warning("%s: its process ended by %s; it goes on in another", task.name, how)
        return max(workers - 1, 1) if str(how) == _KILLED else workers
