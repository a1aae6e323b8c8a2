"""What each stage takes on a data set of `experiments.scaling.data`: seconds, CPU seconds and peak memory, a process each.

    python -m experiments.scaling.measure --data runs/scaling/1m --out experiments/scaling/1m.json

Stages that are in the file are not measured again; ``--stages`` names others than all.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recgen.config.loader import load_config
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext

ASKED = 10_000
"""Requests that `taste` is asked about, and creatives that are evaluated."""


def task(*names: str) -> Callable[[RunContext], Any]:
    """Return a stage that runs tasks of the run."""
    return lambda run: pipeline.execute(run, goals=names)


def asking(run: RunContext) -> dict[str, Any]:
    """Ask `taste` what it would draw for the requests, as every chunk is before anything is drawn."""
    from recgen.stages.generate import fitted
    from recgen.stages.ranker import reward_model

    reward, learner = reward_model(run, "reward"), fitted(run, "taste")
    started = time.perf_counter()
    learner.answers(run.requests[:1], run.data, reward)
    first = time.perf_counter() - started
    started = time.perf_counter()
    asked = min(len(run.requests), ASKED)
    for start in range(0, asked, 1000):
        learner.answers(run.requests[start : start + 1000], run.data, reward)
    return {"seconds to load": first, "seconds a request": (time.perf_counter() - started) / asked}


def evaluation(run: RunContext) -> dict[str, Any]:
    """Judge creatives whose embeddings are given: the item's own image's and noise."""
    from recgen.stages import measure
    from recgen.stages.creative_batch import CreativeBatch

    data, requests = run.data, run.requests[:ASKED]
    rows = np.array([data.item_rows[request.item_id] for request in requests])
    rng = np.random.default_rng(0)
    seen = data.image_features[rows] + 0.3 * rng.standard_normal((len(rows), data.image_features.shape[1]))
    seen = seen.astype(np.float32)
    histories = [[data.item_rows[item] for item in request.history] for request in requests]
    users, items = [request.user_id for request in requests], [request.item_id for request in requests]
    made = CreativeBatch("given", users, items, histories, rows, [], seen, [seen])
    return {
        name: _seconds(lambda step=step: step(run, made))
        for name, step in {
            "by_rankers": measure.by_rankers,
            "by_clip": measure.by_clip,
            "by_verifier": measure.by_verifier,
            "as_sets": measure.as_sets,
        }.items()
    }


def _seconds(step: Callable[[], Any]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


STAGES: dict[str, Callable[[RunContext], Any]] = {
    "dataset": task("dataset"),
    "requests": task("dataset/requests"),
    "features (given)": task("features"),
    "reward, one epoch": task("ranker/reward"),
    "judge, one epoch": task("ranker/judge"),
    "verifier, one epoch": task("ranker/verifier"),
    "taste: fit": task("generator.fit/taste"),
    "taste: asking": asking,
    "evaluation": evaluation,
}


def stage(name: str, data: Path) -> None:
    """Run one stage in this process and print what it took as JSON."""
    told = [f"recgen.given_features.{kind}={data}/{kind}.npy" for kind in ("image", "text")]
    run = RunContext(load_config(str(data / "shop.yaml"), told), data / "run")
    wall, cpu = time.perf_counter(), time.process_time()
    with run.workspace.lock():
        more = STAGES[name](run)
    found = {
        "seconds": time.perf_counter() - wall,
        "CPU seconds": time.process_time() - cpu,
        "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    print(json.dumps(found | (more if isinstance(more, dict) else {})))


def main() -> None:
    """Measure the stages in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--stages", nargs="*", default=list(STAGES))
    parser.add_argument("--one", help="Measure this stage in this process.")
    options = parser.parse_args()
    if options.one:
        stage(options.one, options.data)
        return
    found = json.loads(options.out.read_text()) if options.out.is_file() else {}
    for name in [each for each in options.stages if each not in found]:
        command = [
            sys.executable,
            "-m",
            "experiments.scaling.measure",
            "--data",
            str(options.data),
            "--one",
            name,
        ]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, found[name], flush=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
