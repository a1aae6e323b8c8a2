"""Does a recommender rank better when it is retrained with creatives? (Table 4 of RAGAR, by a sound test.)

``python -m experiments.downstream.measure --work FOLDER`` takes the world and the model of WORLD, chosen by `gain` on seed 900,
runs recgen's downstream stage in a world for each seed, several draws each, and compares the sources over all draws: creatives
made for users who like an item, the same generator's for users who have not met it, for other items, random pictures, the items'
own, these shuffled and none.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from experiments import harness
from experiments.downstream.gain import WORLDS
from recgen import api
from recgen.metrics.comparison import compare
from recgen.stages.downstream import METRICS

HERE = Path(__file__).parent
WORLD, MODEL = "simulated", "VBPR"
SETTINGS = {
    "epochs": 60,
    "eval_step": 5,
    "stopping_step": 3,
    "learning_rate": 0.005,
    "train_batch_size": 4096,
}
SEEDS, DRAWS, ITEMS, PER_ITEM = (1, 2), 3, 100, 2
GENERATOR = "taste"


def changes(seed: int) -> list[str]:
    """Return what a seed changes of the world's recipe."""
    downstream = {
        "model": MODEL,
        "settings": SETTINGS,
        "seeds": DRAWS,
        "items": ITEMS,
        "per_item": PER_ITEM,
        "generators": [GENERATOR],
    }
    return [
        *WORLDS[WORLD][1:],
        f"recgen.seed={seed}",
        f"recgen.simulator.seed={seed}",
        f"recgen.generators=[{GENERATOR}]",
        "recgen.controls=[]",
        "recgen.threads=1",
        "recgen.workers=1",
        "recgen.requests={protocol: blind, items: 2, per_item: 2}",
        *(f"recgen.downstream.{key}={json.dumps(value)}" for key, value in downstream.items()),
        "recgen.downstream.rerank=null",
    ]


def results(folder: Path, seed: int) -> pd.DataFrame:
    """Return each user's results under every source and draw of a finished run."""
    rows = []
    for path in sorted((folder / "downstream").glob("*/*/users.parquet")):
        table = pd.read_parquet(path)
        source, draw = path.parts[-3], f"{seed}/{path.parts[-2]}"
        rows.append(table.assign(source=source, draw=draw, user_id=f"{seed}/" + table["user_id"]))
    return pd.concat(rows, ignore_index=True)


def main() -> None:
    """Run what is missing and write result.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/experiments/downstream"))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    given = parser.parse_args()
    tables = []
    for seed in given.seeds:
        folder = given.work / f"retrained/{seed}"
        api.run(WORLDS[WORLD][0], str(folder), changes(seed), until="downstream")
        tables.append(results(folder, seed))
    table = pd.concat(tables, ignore_index=True)
    found = compare(table, METRICS, [GENERATOR])
    harness.save(
        {
            "world": WORLD,
            "model": MODEL,
            "settings": SETTINGS,
            "draws": table["draw"].nunique(),
            "items": ITEMS,
            "per_item": PER_ITEM,
            "means": found.means,
            "differences": found.tests,
        },
        HERE / "result.json",
    )


if __name__ == "__main__":
    main()
