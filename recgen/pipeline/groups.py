"""Whether the users of a run share creatives, and the task that finds out who shares with whom."""

from __future__ import annotations

from recgen.config.schema import Requests, Settings
from recgen.pipeline.context import RunContext
from recgen.pipeline.controls import SWAPPED
from recgen.pipeline.task import Task

TASK = "groups"


def is_shared(run: RunContext, name: str) -> bool:
    """Return whether users share what the run calls by this name: a generator's creatives, their own or another group's.

    Images that are read from a folder are for whom they were made, and so are those of controls without a generator.
    """
    spec = run.config.generators.get(name.removeprefix(SWAPPED))
    return plan(run.settings).shares and spec is not None and spec.kind != "folder"


def plan(settings: Settings) -> Requests:
    """Return the block `requests`, of which a number alone is the short form."""
    asked = settings.requests
    return asked if isinstance(asked, Requests) else Requests(protocol="paper", users=asked)


def tasks(run: RunContext) -> list[Task]:
    """Return the task that clusters users; none where every user has creatives of their own."""
    if not plan(run.settings).shares:
        return []
    after = ("features", "dataset/requests", f"ranker/{run.resolve_role('reward')}")
    reads = {"groups": plan(run.settings).groups}
    owns = ("creatives/groups.parquet", "creatives/tastes.safetensors")
    return [Task(TASK, "generator.fit", "recgen.stages.groups:cluster", reads, after, owns)]


def curves(run: RunContext) -> list[Task]:
    """Return the tasks that compare own creatives with shared ones, one a generator that draws."""
    asked = plan(run.settings)
    names = [name for name in run.settings.generators if is_shared(run, name)] if asked.compare else []
    return [_curve(run, name, asked.compare) for name in names]


def _curve(run: RunContext, name: str, count: int) -> Task:
    reads = {"requests": count, "config": run.config.generators[name].draw_settings}
    after = (TASK, f"generate/{name}", *(f"ranker/{role}" for role in run.roles))
    owns = tuple(
        f"groups/{what}" for what in (f"{name}.parquet", f"{name}.json", f"shards/{name}", f"images/{name}")
    )
    return Task(
        f"groups/{name}", "evaluate", "recgen.stages.group_curve:measure", reads, after, owns, (name,)
    )


def before_drawing(run: RunContext) -> tuple[str, ...]:
    """Return the names of the tasks by which it is known for whom is drawn."""
    return tuple(task.name for task in tasks(run))
