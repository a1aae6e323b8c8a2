"""The plan of memory against torch's own allocator: every generator fits and draws on the small models, and each task is traced.

What is planned for a task is its weights and, beside them, what is allocated at most at the same time. Weights are counted on the
loaded networks; the rest is the highest sum of what torch's CPU allocator has handed out since the task began. What a task
allocates for something else than the plan's items, such as RecBole's tables or the ranking models, is in the trace too.

    python -m experiments.memory.measure --work FOLDER     # six minutes of one core
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from recgen.config.loader import load_config
from recgen.core.compat import prepare_torchvision
from recgen.core.io import write_json
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.pipeline.task import Task
from recgen.planning import memory
from recgen.planning.sizes import Sizes, of_tables

prepare_torchvision()
import torch  # noqa: E402

GIB = 2.0**30
SHORT = "max_steps: 2, evaluate_every: 1, decode: {steps: 2}"
GENERATORS = {
    "taste": "trials: 40, decode: {steps: 2}",
    "ragar": SHORT,
    "iamg": SHORT,
    "pmg": SHORT,
    "textual_inversion": "clusters: 1, max_steps: 2, decode: {steps: 2}",
    "dreambooth": "clusters: 1, max_steps: 2, decode: {steps: 2}",
    "rebeca": "prior_steps: 2, users_per_step: 4, images_per_user: 8, " + SHORT,
    "stable_diffusion": "decode: {steps: 2}",
    "ip_adapter_mean": "decode: {steps: 2}",
}
"""Few steps of each: batches are the defaults, which decide what is in memory. One cluster fills a batch."""


def overrides(generators: Mapping[str, str]) -> list[str]:
    """Return the settings that make simulated.yaml short."""
    return [
        "recgen.preset=standard", "recgen.simulator={users: 80, items: 120}", "recgen.requests=40", "recgen.controls=[]",
        "epochs=1", "recgen.shard_size=40", f"recgen.generators=[{', '.join(generators)}]",
        *(f"recgen.{name}={{{block}}}" for name, block in generators.items()),
    ]  # fmt: skip


def allocated(call: Callable[[], Any]) -> float:
    """Return the GiB that torch's CPU allocator has handed out at most during a call, beside what there was before."""
    activity = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activity, profile_memory=True) as profile:
        call()
    kineto = profile.profiler
    assert kineto is not None and kineto.kineto_results is not None
    events = sorted(kineto.kineto_results.events(), key=lambda event: event.start_ns())
    sizes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return float(np.cumsum([0, *sizes]).max()) / GIB


def weights(run: RunContext) -> float:
    """Return the GiB of the weights of the networks that a run has loaded, each counted once."""
    pipe, llm = run.models.backbone.pipeline, run.models.language_model
    networks = [each for each in pipe.components.values() if isinstance(each, torch.nn.Module)]
    networks += [
        run.models.encoder.model,
        *([] if llm is None or "model" not in llm.__dict__ else [llm.model]),
    ]
    held = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes()
        for network in networks
        for value in network.state_dict(keep_vars=True).values()
    }
    return sum(held.values()) / GIB


def planned(counted: Sizes, generators: Mapping[str, str] = GENERATORS) -> dict[str, float]:
    """Return the GiB that the plan says of each task, without the program itself."""
    config = load_config("simulated", overrides(generators))
    return {task.task: task.gib for task in memory.tasks(config, counted, False, program=False)}


def measured(folder: Path, generators: Mapping[str, str] = GENERATORS) -> tuple[Sizes, dict[str, float]]:
    """Run the generators on simulated data in `folder`; return the data's sizes and the GiB that each of their tasks took."""
    run = RunContext(load_config("simulated", overrides(generators)), folder)
    pipeline.execute(run, until="ranker")
    counted = of_tables(folder)
    assert counted is not None
    found: dict[str, float] = {}
    do, tasks = pipeline._do, planned(counted, generators)

    def traced(run: RunContext, task: Task, *rest: Any) -> None:
        if task.name not in tasks:
            do(run, task, *rest)
            return
        _ = (
            run.models.backbone,
            run.models.encoder,
        )  # loaded before, so that the trace is of what is beside them
        if (
            "keywords" in run.config.generators[task.name.partition("/")[2]].needs
            and run.models.language_model
        ):
            _ = run.models.language_model.model
        held = weights(run)
        found[task.name] = held + allocated(lambda: do(run, task, *rest))

    pipeline._do = traced
    try:
        pipeline.execute(run, until="generate")
    finally:
        pipeline._do = do
    return counted, found


def main() -> None:
    """Measure every generator and write the result."""
    parser = argparse.ArgumentParser(description="planned against allocated memory")
    parser.add_argument("--work", type=Path, required=True, help="folder of the run")
    given = parser.parse_args()
    counted, found = measured(given.work)
    expected = planned(counted)
    rows = {
        name: {"planned": round(expected[name] * 2**10, 1), "measured": round(gib * 2**10, 1)}
        for name, gib in found.items()
    }
    write_json(
        Path(__file__).with_name("measured.json"), {"unit": "MiB", "sizes": asdict(counted), "tasks": rows}
    )


if __name__ == "__main__":
    main()
