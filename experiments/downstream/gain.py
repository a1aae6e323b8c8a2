"""Does a recommender gain anything from images, where, and with which settings?

``python -m experiments.downstream.gain --world simulated --model VBPR --seeds 900`` trains a model on the items' own image
features, on the same features dealt to other items and on one feature for all, and prints how much better the first ranks each
user's held-out like; and on simulated data what a ranking by the truth would reach, which is all that there is to gain. Settings
are chosen on seeds 900 to 902; others are reported.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen.config.loader import load_config
from recgen.core.io import write_json
from recgen.data.simulation.simulator import Truth
from recgen.metrics.crossed import crossed_difference
from recgen.metrics.statistics import seed_mean
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.recommender.baselines import baselines, expected_metrics
from recgen.recommender.training import train
from recgen.stages import downstream

SOURCES = ("ORI", "SHUFFLED", "NONE")
TUNED = "NONE, its own settings"
"""The control without images under the settings that are best for it, which need not be those that are best with images."""
WORLDS: dict[str, list[str]] = {
    "sparse": ["recbole_configs/sparse.yaml"],
    "demo": ["recbole_configs/demo.yaml", "recgen.downstream.settings.epochs=20"],
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
    world: str, seed: int, work: Path, model: str, settings: dict[str, Any] | None, more: list[str]
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
    if settings:
        overrides.append(f"recgen.downstream.settings={json.dumps(settings)}")
    run = RunContext(load_config(recipe, overrides), work / world / str(seed))
    pipeline.execute(run, until="features")
    return run


def gains(run: RunContext, trainings: int, sources: Sequence[str] = SOURCES) -> dict[str, list[pd.DataFrame]]:
    """Return each user's results under every source and training."""
    found: dict[str, list[pd.DataFrame]] = {source: [] for source in sources}
    folder = run.folder / "gain"
    for turn in range(trainings):
        for source in sources:
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


def over_seeds(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return own features' gain over each control, the mean of the worlds with Student's interval over them."""
    return {
        key: {
            other: seed_mean([row[key][other]["difference"] for row in rows]).as_json()
            for other in rows[0][key]
        }
        for key in ("recall@10 gain", "ndcg@10 gain")
    }


def ceiling(run: RunContext) -> dict[str, float] | None:
    """Return Recall@10 and NDCG@10 of a ranking by each user's true utility of the items; None where nobody knows it."""
    folder = run.folder / "dataset/simulator"
    if not (folder / "truth.safetensors").is_file():
        return None
    truth, table = Truth.load(folder), run.interactions
    looks, factors = truth.item_attributes, truth.item_factors
    rows = {token: row for row, token in enumerate(truth.item_ids)}
    found = []
    for user, likes in table[table["like"]].groupby("user_id", sort=False):
        mine = likes["item_id"].map(rows).to_numpy()
        test = np.isin(np.arange(len(rows)), mine[(likes["split"] == "test").to_numpy()])
        if test.any():
            candidates = test | ~np.isin(np.arange(len(rows)), mine)
            utility = truth.utility([str(user)] * len(rows), looks, factors)
            found.append(expected_metrics(utility[candidates], test[candidates], 10))
    return dict(zip(("recall@10", "ndcg@10"), np.mean(found, axis=0).tolist(), strict=True))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/experiments/downstream"))
    parser.add_argument("--world", choices=WORLDS, required=True)
    parser.add_argument("--model", default="VBPR")
    parser.add_argument("--seeds", type=int, nargs="*", default=[900])
    parser.add_argument("--trainings", type=int, default=3)
    parser.add_argument(
        "--settings", type=json.loads, help="of the trainings; the configuration's by default"
    )
    parser.add_argument("--none", type=json.loads, help=f"settings over these for {TUNED}")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for seed in given.seeds:
        started = time.perf_counter()
        run = context(given.world, seed, given.work, given.model, given.settings, given.set)
        found = gains(run, given.trainings)
        if given.none:
            own = {**run.settings.downstream.settings, **given.none}
            without = context(given.world, seed, given.work, given.model, own, given.set)
            found[TUNED] = gains(without, given.trainings, ["NONE"])["NONE"]
        row = {"world": given.world, "seed": seed, "model": given.model}
        row |= {"settings": run.settings.downstream.settings, TUNED: given.none}
        row |= {"users": len(found["ORI"][0]), "trainings": given.trainings}
        for key in ("recall@10", "ndcg@10"):
            row[key] = {
                source: float(np.mean([each[key].mean() for each in found[source]])) for source in found
            }
            row[f"{key} gain"] = {other: contrast(found, key, other) for other in list(found)[1:]}
        row["ceiling"] = ceiling(run)
        row |= baselines(run.split)
        row["seconds"] = round(time.perf_counter() - started, 1)
        print(json.dumps(row), flush=True)
        rows.append(row)
    if given.out:
        write_json(given.out, {"over seeds": over_seeds(rows), "seeds": rows})


if __name__ == "__main__":
    main()
