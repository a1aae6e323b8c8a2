"""Does a recommender gain anything from images, where, and with which settings?

``python -m experiments.downstream.gain --world simulated --model VBPR --seeds 900`` trains a model on the items' own image
features, on the same features dealt to other items and on one feature for all, and prints how much better the first ranks each
user's held-out like. Settings are chosen on seed 900; ``measure.py`` reports others.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen.config.loader import load_config
from recgen.core.io import write_json
from recgen.metrics.crossed import crossed_difference
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.recommender.training import train
from recgen.stages import downstream

SOURCES = ("ORI", "SHUFFLED", "NONE")
WORLDS: dict[str, list[str]] = {
    "demo": ["recbole_configs/demo.yaml"],
    "simulated": ["recbole_configs/simulated.yaml"],
    "simulated-wide": [
        "recbole_configs/simulated.yaml",
        "recgen.simulator.users=1000",
        "recgen.simulator.items=2000",
        "recgen.simulator.interactions_per_user=60",
    ],
    "movielens": ["experiments/movielens.yaml"],
}


def context(
    world: str, seed: int, work: Path, model: str, settings: dict[str, Any], more: list[str]
) -> RunContext:
    """Return a run of a world and a seed with data and features made."""
    recipe, *overrides = WORLDS[world]
    if world != "movielens":
        overrides += [f"recgen.simulator.seed={seed}"]
    overrides += [
        f"recgen.seed={seed}",
        "use_gpu=false",
        "recgen.threads=1",
        f"recgen.downstream.model={model}",
        *more,
    ]
    overrides.append(f"recgen.downstream.settings={json.dumps(settings)}")
    run = RunContext(load_config(recipe, overrides), work / world / str(seed))
    pipeline.execute(run, until="features")
    return run


def gains(run: RunContext, trainings: int) -> dict[str, list[pd.DataFrame]]:
    """Return each user's results under every source and training."""
    found: dict[str, list[pd.DataFrame]] = {source: [] for source in SOURCES}
    folder = run.folder / "gain"
    for turn in range(trainings):
        for source in SOURCES:
            image = None
            if source != "ORI":
                image = downstream.changed_features(run, source, turn, folder / f"{source}.safetensors")
            training = downstream.prepared(run, turn, image)
            run.prepare_torch()
            found[source].append(training.measure(train(training.config, training.data).model))
    return found


def contrast(found: dict[str, list[pd.DataFrame]], key: str, other: str) -> dict[str, Any]:
    """Return own features minus a control's, with an interval over users and trainings."""
    pairs = enumerate(zip(found["ORI"], found[other], strict=True))
    rows = pd.concat([a.merge(b, on="user_id").assign(draw=turn) for turn, (a, b) in pairs])
    factors = {"draw": rows["draw"], "user": rows["user_id"]}
    return crossed_difference(rows[f"{key}_x"], rows[f"{key}_y"], factors).as_json("ORI", other, key)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/experiments/downstream"))
    parser.add_argument("--world", choices=WORLDS, required=True)
    parser.add_argument("--model", default="VBPR")
    parser.add_argument("--seeds", type=int, nargs="*", default=[900])
    parser.add_argument("--trainings", type=int, default=3)
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for seed in given.seeds:
        started = time.perf_counter()
        run = context(given.world, seed, given.work, given.model, given.settings, given.set)
        found = gains(run, given.trainings)
        row = {"world": given.world, "seed": seed, "model": given.model, "settings": given.settings}
        row |= {"users": len(found["ORI"][0]), "trainings": given.trainings}
        for key in ("recall@10", "ndcg@10"):
            row[key] = {
                source: float(np.mean([each[key].mean() for each in found[source]])) for source in SOURCES
            }
            row[f"{key} gain"] = {other: contrast(found, key, other) for other in SOURCES[1:]}
        row["seconds"] = round(time.perf_counter() - started, 1)
        print(json.dumps(row), flush=True)
        rows.append(row)
    if given.out:
        write_json(given.out, rows)


if __name__ == "__main__":
    main()
