"""How the ranking models rank, and what of it they owe to the items' images.

``python -m experiments.rankers.measure`` trains each model on the demo's data and on simulated data, on the items' own images and
on the same images dealt to other items (texts stay), with the settings that the two configurations have for their downstream
stage. Those were chosen for VBPR on seed 900; nothing was tuned for the other models. Worlds of other seeds are reported.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.downstream.gain import context
from recgen.core.io import write_json
from recgen.core.seeding import seed_for
from recgen.metrics.statistics import bootstrap_mean, paired_difference
from recgen.pipeline.context import RunContext
from recgen.recommender.baselines import baselines
from recgen.recommender.training import train
from recgen.stages import downstream

MODELS = ("MICRO", "LATTICE", "FREEDOM", "BM3", "VBPR", "LightGCN")
WORLDS = ("demo", "simulated")
OWN, SHUFFLED = "ORI", "SHUFFLED"
METRICS = ("recall@10", "ndcg@10")
SETTINGS = {
    "epochs": 16,
    "eval_step": 4,
    "stopping_step": 2,
    "learning_rate": 1e-2,
    "train_batch_size": 4096,
}


def trained(run: RunContext, source: str, folder: Path) -> pd.DataFrame:
    """Return each test user's Recall@10 and NDCG@10 after a training on one source's images; kept, and not trained twice."""
    path = folder / f"{downstream.model_name(run)}.{source}.parquet"
    if not path.exists():
        image = (
            None
            if source == OWN
            else downstream.changed_features(run, source, 0, folder / f"{source}.safetensors")
        )
        run.prepare_torch()
        training = downstream.prepared(run, 0, image)
        table = training.measure(train(training.config, training.data).model)
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path)
    return pd.read_parquet(path)


def tables(
    world: str, seeds: list[int], work: Path
) -> Iterator[tuple[str, int, dict[str, pd.DataFrame], dict[str, Any]]]:
    """Yield model, seed, results by source, and what ranking without a model reaches."""
    for seed in seeds:
        for model in MODELS:
            run = context(world, seed, work, model, SETTINGS, [])
            sources = (OWN, SHUFFLED) if downstream.model_reads_images(run) else (OWN,)
            folder = run.folder / "rankers"
            yield (
                model,
                seed,
                {source: trained(run, source, folder) for source in sources},
                baselines(run.split),
            )


def summary(
    found: list[tuple[str, int, dict[str, pd.DataFrame], dict[str, Any]]], same_users: bool
) -> dict[str, Any]:
    """Return by model the means with intervals over users, those of each seed, and own images minus others'.

    `same_users`: the seeds' worlds have the same users, whose results are drawn together.
    """
    rows: dict[str, Any] = {}
    for model in MODELS:
        mine = [(seed, results) for name, seed, results, _ in found if name == model]
        pooled = {
            source: pd.concat(
                results[source].assign(
                    seed=seed,
                    who=("" if same_users else f"{seed}/") + results[source]["user_id"],
                )
                for seed, results in mine
            )
            for source in mine[0][1]
        }
        rows[model] = {}
        for key in METRICS:
            entry: dict[str, Any] = {
                source: {
                    **bootstrap_mean(table[key], table["who"], seed_for(0, model, key, source)).as_json(),
                    "by seed": {str(seed): float(results[source][key].mean()) for seed, results in mine},
                }
                for source, table in pooled.items()
            }
            if SHUFFLED in pooled:
                both = pooled[OWN].merge(pooled[SHUFFLED], on=["seed", "user_id", "who"])
                gap = paired_difference(
                    both[f"{key}_x"], both[f"{key}_y"], both["who"], seed_for(0, model, key)
                )
                entry["own minus shuffled"] = gap.as_json(OWN, SHUFFLED, key)
            rows[model][key] = entry
    without = {seed: each for _, seed, _, each in found}
    rows["without a model"] = {str(seed): each for seed, each in without.items()}
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/experiments/rankers"))
    parser.add_argument("--worlds", nargs="*", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    given = parser.parse_args()
    result: dict[str, Any] = {"settings": SETTINGS, "seeds": given.seeds, "worlds": {}}
    started = time.process_time()
    for world in given.worlds:
        result["worlds"][world] = summary(list(tables(world, given.seeds, given.work)), world == "demo")
        print(json.dumps(result["worlds"][world], indent=1), flush=True)
    print(f"{time.process_time() - started:.0f} CPU s", flush=True)
    write_json(Path(__file__).with_name("result.json"), result)


if __name__ == "__main__":
    main()
