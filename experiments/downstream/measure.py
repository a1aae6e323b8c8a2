"""Does a recommender rank better when it is retrained with creatives? (Table 4 of RAGAR, by a sound test.)

``python -m experiments.downstream.measure --work FOLDER`` takes a shipped configuration in which the recommender gains by
images (`gain`, chosen on seeds 900 to 902), runs recgen's downstream stage in a world for each seed, several draws each, and
compares the sources over all draws: creatives made for users who like an item, the same generator's for users who have not met
it, for other items, random pictures, the items' own, these shuffled and none.

`INFORMED` asks what of a gain is told and not guessed: creatives for the same users by a taste that does read that they like the
item, which the recommender trained with them is to learn.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd

from experiments import harness
from experiments.downstream.gain import WORLDS
from generators.taste.asked import Sources
from recgen.config.loader import load_config
from recgen.core.io import write_features, write_parquet
from recgen.data.draws import OWN
from recgen.metrics.comparison import compare
from recgen.pipeline import downstream as plan
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.recommender import mixing
from recgen.recommender.training import train
from recgen.stages import downstream, draws
from recgen.stages.downstream import METRICS
from recgen.stages.generate import Drawer

HERE = Path(__file__).parent
WORLD, GENERATOR = "sparse", "taste"
SEEDS, DRAWS = (1, 2, 3), 2
INFORMED = "INFORMED"


def changes(seed: int) -> list[str]:
    """Return what a seed changes of the world's recipe."""
    return [
        *WORLDS[WORLD][1:],
        "use_gpu=false",
        f"recgen.seed={seed}",
        f"recgen.simulator.seed={seed}",
        f"recgen.generators=[{GENERATOR}]",
        "recgen.controls=[]",
        "recgen.threads=1",
        "recgen.workers=1",
        "recgen.requests={protocol: blind, items: 2, per_item: 2}",
        f"recgen.downstream.seeds={DRAWS}",
    ]


_told = Sources.coefficients


def knowing(sources: Sources, users: Sequence[int], without: Sequence[int] | None = None) -> np.ndarray:
    """Return a posterior of users that reads all their encounters, whatever item is asked for."""
    return _told(sources, users)


def informed(run: RunContext, turn: int) -> None:
    """Train the model with creatives of a taste that reads whether an item is liked; write results as the stage does."""
    folder = run.folder / f"downstream/{INFORMED}/{turn}"
    if (folder / "users.parquet").is_file():
        return
    table = draws.chosen(run, turn)
    rows = table[table["kind"] == OWN]
    with patch.object(Sources, "coefficients", knowing):
        embeddings = draws._embeddings(Drawer(run, GENERATOR), rows)
    means = mixing.item_means([run.data.item_rows[item] for item in rows["item_id"]], embeddings)
    mixed = mixing.mix(run.data.image_features, means, run.settings.downstream.mix_weight)
    write_features(folder / "image.safetensors", mixed, run.data.item_ids)
    run.prepare_torch()
    training = downstream.prepared(run, turn, folder / "image.safetensors")
    write_parquet(folder / "users.parquet", training.measure(train(training.config, training.data).model))


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
    runs = {
        seed: RunContext(load_config(WORLDS[WORLD][0], changes(seed)), given.work / f"retrained/{seed}")
        for seed in given.seeds
    }
    for turn in range(DRAWS):
        for run in runs.values():
            # not the summary, which would have creatives judged that nobody asks for here
            pipeline.execute(
                run, goals=[each.name for each in plan.tasks(run) if each.arguments[-1:] == (turn,)]
            )
            informed(run, turn)
    tables = [results(run.folder, seed) for seed, run in runs.items()]
    table = pd.concat(tables, ignore_index=True)
    found = compare(table, METRICS, [GENERATOR])
    config = load_config(WORLDS[WORLD][0])
    harness.save(
        {
            "world": WORLD,
            "seeds": given.seeds,
            "draws": table["draw"].nunique(),
            "downstream": config.settings.downstream.model_dump(),
            "means": found.means,
            "differences": found.tests,
        },
        HERE / "result.json",
    )


if __name__ == "__main__":
    main()
