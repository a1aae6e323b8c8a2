"""How far a run is while it goes: which task of how many, and how long the rest will take by what was measured so far."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from recgen.core.progress import duration
from recgen.planning.estimate import Cost
from recgen.planning.plan import Plan
from recgen.planning.schedule import makespan
from recgen.planning.speeds import planned


class Clock:
    """Counts a run's tasks down.

    Parameters
    ----------
    plan
        The run's plan, whose tasks' seconds are put right already by earlier runs.
    raw
        The estimates by task as they were before that: what records compare with.
    device
        Where networks run, as records name it.
    """

    def __init__(self, plan: Plan, raw: Mapping[str, Cost], device: str) -> None:
        self._left = {task.name: task.cost for task in plan.left} if plan.sizes is not None else {}
        self._names = [task.name for task in plan.tasks]
        self._begun = {task.name for task in plan.tasks if task.done}
        self._raw, self._device = raw, device
        self._waits, self._workers = plan.waits, plan.workers
        self._measured: dict[str, list[float]] = {}

    def starting(self, name: str) -> str:
        """Return what to say when a task starts: ``ranker/judge: task 8 of 36, about 12 min left``."""
        place = name
        if name in self._names:  # counted as they begin: side by side they do not come in the plan's order
            self._begun.add(name)
            place = f"{name}: task {len(self._begun)} of {len(self._names)}"
        return f"{place}, about {duration(self.seconds)} left" if self._left else place

    @property
    def seconds(self) -> float:
        """Seconds that everything left is estimated to take."""
        return makespan(self._left_of(self._waits), self.estimates, self._workers)

    @property
    def estimates(self) -> dict[str, float]:
        """Seconds that each task which is left is estimated to take, by what was measured so far."""
        return {name: self._factor(cost.kind) * cost.seconds for name, cost in self._left.items()}

    def _left_of(self, waits: Mapping[str, Collection[str]]) -> dict[str, Collection[str]]:
        return {name: waits.get(name, ()) for name in self._left}

    def finished(self, name: str, seconds: float) -> None:
        """Take a task off, and put right what is left of its kind by the seconds that it took."""
        cost = self._left.pop(name, None)
        if cost is not None and cost.seconds > 0:
            pair = self._measured.setdefault(cost.kind, [0.0, 0.0])
            pair[0] += seconds
            pair[1] += cost.seconds

    def taken(self, name: str) -> None:
        """Take a task off that another run has done: it took no time here, which says nothing of those that are left."""
        self._left.pop(name, None)
        self._begun.add(name)

    def _factor(self, kind: str) -> float:
        measured, estimated = self._measured.get(kind, (0.0, 0.0))
        return measured / estimated if measured >= 1 and estimated > 0 else 1.0

    def record(self, name: str) -> dict[str, Any]:
        """Return what the task's record says of its estimate; nothing where there was none."""
        cost = self._raw.get(name)
        return {} if cost is None else {"planned": planned(cost.kind, cost.seconds, self._device)}
