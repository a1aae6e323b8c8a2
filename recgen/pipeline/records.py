"""A task's beginning and end: what is said of them and what is recorded, whichever process does the work in between."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from recgen.pipeline import controls, groups
from recgen.pipeline.task import Task

if TYPE_CHECKING:
    from recgen.pipeline.context import RunContext
    from recgen.planning.clock import Clock

logger = logging.getLogger("recgen")


def begin(run: RunContext, task: Task, fingerprint: str, clock: Clock | None) -> None:
    """Say that a task begins, and make its place in the run's folder ready for it."""
    logger.info("%s", task.name if clock is None else clock.starting(task.name))
    for name in run.workspace.begin(task.name, fingerprint, task.owns):
        logger.warning("%s: %s is damaged or gone, and is made again", task.name, name)


def finish(
    run: RunContext,
    task: Task,
    fingerprint: str,
    used: Mapping[str, float],
    outputs: Iterable[Path],
    clock: Clock | None,
) -> None:
    """Record a task that has written its outputs and what it took (`recgen.core.usage.Usage.report`), and say so."""
    planned = {} if clock is None else clock.record(task.name)
    run.workspace.finish(task.name, fingerprint, outputs, {**used, **planned}, task.owns)
    if clock is not None:
        clock.finished(task.name, used["seconds"])
    logger.info("%s: %.1f s", task.name, used["seconds"])


def models(run: RunContext, task: Task) -> frozenset[str]:
    """Return which models a task may find loaded; all others are let go of before it."""
    drawing = frozenset({"encoder", "backbone"})
    if task.stage in ("generator.fit", "generate"):
        name = str(task.arguments[0]).removeprefix(controls.SWAPPED) if task.arguments else ""
        spec = run.config.generators.get(name)
        return drawing | {"language_model"} if spec is not None and "keywords" in spec.needs else drawing
    measuring = {"encoder", "judge_encoders"}
    if task.name.startswith(f"{groups.TASK}/"):  # draws too
        return frozenset({*measuring, "backbone"})
    others = {"features": {"encoder", "language_model"}, "gate": measuring, "evaluate": measuring}
    return frozenset(others.get(task.stage, ()))
