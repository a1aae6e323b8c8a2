"""The task that chooses which of the run's requests are drawn, where there is a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recgen.core.io import identity
from recgen.pipeline import groups
from recgen.pipeline.context import RunContext
from recgen.pipeline.task import Task

TASK = "budget"


def tasks(run: RunContext) -> list[Task]:
    """Return the task; none without a budget."""
    budget = run.settings.budget
    if budget is None:
        return []
    reads: dict[str, Any] = {"images": budget.images}
    if budget.traffic is not None:
        reads["traffic"] = [budget.traffic, identity(Path(budget.traffic))]
    after = (
        "features",
        "dataset/requests",
        f"ranker/{run.resolve_role('reward')}",
        *groups.before_drawing(run),
    )
    return [
        Task(
            TASK, "generator.fit", "recgen.stages.budget:choose", reads, after, ("creatives/budget.parquet",)
        )
    ]


def before_drawing(run: RunContext) -> tuple[str, ...]:
    """Return the names of the tasks by which it is known what is drawn, and for whom."""
    return (*groups.before_drawing(run), *(task.name for task in tasks(run)))
