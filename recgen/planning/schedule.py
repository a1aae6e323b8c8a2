"""Work that is done side by side: which of several tasks to begin with, and how long all of them take."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping


def urgency(waits: Mapping[str, Collection[str]], seconds: Mapping[str, float]) -> dict[str, float]:
    """Return, by task, the seconds from its start until the last task that waits for it is done: its critical path.

    Parameters
    ----------
    waits
        For each task, each after those that it waits for, the names of those. Names that are no keys count as done.
    seconds
        What each task takes; 1 where it is not told, so that without any the longest chain goes first.
    """
    found = {name: seconds.get(name, 1.0) for name in waits}
    behind = dict.fromkeys(waits, 0.0)
    for name in reversed(list(waits)):
        found[name] += behind[name]
        for before in waits[name]:
            if before in behind:
                behind[before] = max(behind[before], found[name])
    return found


def makespan(waits: Mapping[str, Collection[str]], seconds: Mapping[str, float], workers: int) -> float:
    """Return how long all tasks take when `workers` of them may go on at once and the most urgent one that can is begun first.

    `waits` and `seconds` are as of `urgency`.
    """
    urgent = urgency(waits, seconds)
    left = {name: {before for before in behind if before in waits} for name, behind in waits.items()}
    running: list[tuple[float, str]] = []
    now = 0.0
    while left or running:
        ready = sorted((name for name, behind in left.items() if not behind), key=lambda name: -urgent[name])
        for name in ready[: workers - len(running)]:
            del left[name]
            heapq.heappush(running, (now + seconds.get(name, 1.0), name))
        now, done = heapq.heappop(running)
        for behind in left.values():
            behind.discard(done)
    return now
