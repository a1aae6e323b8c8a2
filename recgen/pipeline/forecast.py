"""The plan of a run: its tasks, what is done, and what the rest will take, before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from recgen.pipeline import pipeline, pool
from recgen.pipeline.cache import ArtifactCache
from recgen.pipeline.context import RunContext, threads_of
from recgen.pipeline.side_by_side import waits
from recgen.pipeline.task import Task
from recgen.pipeline.tasks import tasks
from recgen.planning import machines, memory, speeds
from recgen.planning import sizes as counting
from recgen.planning.clock import Clock
from recgen.planning.estimate import Cost, Estimator
from recgen.planning.plan import Plan, PlannedTask, corrected
from recgen.planning.sizes import Sizes


def plan(
    run: RunContext,
    until: str | None = None,
    force: str | None = None,
    gpu: str | None = None,
    price: float | None = None,
    folder: Path | None = None,
    cache: ArtifactCache | None = None,
) -> tuple[Plan, Clock]:
    """Return what `execute` would do with the same arguments and what it will take, and the clock that counts it down.

    Parameters
    ----------
    run, until, force, cache
        As of `recgen.pipeline.pipeline.execute`.
    gpu
        A GPU of `recgen.planning.machines.GPUS` on which networks are to run; None for this machine's CPU.
    price
        Of an hour, in any currency.
    folder
        Where the run will be, if not where `run` is: runs beside it tell what work takes here.
    """
    work = tasks(run)  # once: files of weights are read to identify them
    listed = pipeline.plan(run, work, until, force, cache)
    left, found = any(not done for _, done in listed), sizes(run)
    card = None if gpu is None else machines.gpu(gpu)
    processes = 1 if card is not None else pool.workers(run, found)
    speed = machines.probe(processes) if left and found else 1.0
    machine = machines.Machine(speed, threads_of(run.settings), card)
    costs = _costs(run, work, found, machine)
    planned = [PlannedTask(name, done, costs.get(name, Cost("small", 0.0))) for name, done in listed]
    device = gpu or "cpu"
    factors = speeds.factors(folder or run.folder, device) if left else {}
    images = sum(cost.images for name, cost in costs.items() if name.startswith("generate/"))
    made = Plan(
        corrected(planned, factors),
        found,
        machine,
        []
        if found is None
        else memory.tasks(run.config, found, card is not None, None if card is None else card.memory),
        0.0 if found is None else memory.disk(run.config, images, found),
        frozenset(factors),
        price,
        run.settings.preset or "",
        processes,
        waits(work),
        {} if found is None else {size: memory.fits(run.config, found, size) for size in memory.CARDS},
    )
    return made, Clock(made, costs, device)


def sizes(run: RunContext) -> Sizes | None:
    """Return the sizes of a run's data: of its tables, else of what it would make them from; None where nothing tells."""
    found = counting.of_tables(run.folder)
    if found is not None:
        return found
    simulator, base = run.settings.simulator, run.inputs.simulator_base
    if simulator is not None and base is None:
        return counting.of_simulator(simulator, run.settings)
    folder = run.source if base is None else base
    log, items = (folder / f"{folder.name}.{ending}" for ending in ("inter", "item"))
    return counting.of_files(log, items, run.config.recbole, run.settings)


def _costs(
    run: RunContext, work: list[Task], found: Sizes | None, machine: machines.Machine
) -> dict[str, Cost]:
    if found is None:
        return {}
    estimator = Estimator(run.config, found, machine)
    return {task.name: estimator.cost(task.stage, task.name) for task in work}
