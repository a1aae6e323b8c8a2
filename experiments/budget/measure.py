"""What do the first images earn when not all can be drawn? True gain of `taste`'s images against their number.

The worlds of `experiments/gate` (48 requests a seed). The order is that of the run's budget: predicted gain times traffic. Beside
it stand the predicted gain alone, traffic alone, orders at random, and that of the true gain itself, which nobody knows. In these
worlds users meet items at random, so that traffic from the log is nearly alike everywhere; `skewed` gives items made-up views
(Zipf's law with exponent 1, in a random order), as shops have them.

    python -m experiments.budget.measure --work runs/gate
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.gate.measure import arguments, world
from recgen.config.budget import Budget
from recgen.core.io import write_json
from recgen.core.seeding import numpy_rng
from recgen.metrics import budget
from recgen.pipeline.context import RunContext
from recgen.stages.budget import predicted, traffic
from recgen.stages.creative_batch import load
from recgen.stages.measure import by_truth

HERE = Path(__file__).parent
GENERATOR = "taste"


def of_seed(run: RunContext) -> pd.DataFrame:
    """Return a row per request of a world: image, predicted and true gain, traffic by the log and made up."""
    run.settings = run.settings.model_copy(update={"budget": Budget()})
    made = load(run, GENERATOR)
    items = sorted(set(made.items))
    views = dict(
        zip(
            numpy_rng(run.settings.seed, "views").permutation(items),
            1 / np.arange(1, len(items) + 1),
            strict=True,
        )
    )
    return pd.DataFrame({
        "image": [f"{run.settings.seed}/{user}/{item}" for user, item in zip(made.users, made.items, strict=True)],
        "seed": run.settings.seed,
        "gain": by_truth(run, made)["true_utility_gain"],
        "predicted": predicted(run, run.requests),
        "log": traffic(run, run.requests),
        "skewed": [views[item] for item in made.items],
    })  # fmt: skip


def measured(worlds: Sequence[RunContext]) -> dict[str, Any]:
    """Return the curves over all worlds, and how far prediction and truth agree."""
    table = pd.concat([of_seed(run) for run in worlds], ignore_index=True)
    images, ones = table["image"].tolist(), np.ones(len(table))
    found: dict[str, Any] = {
        "seeds": [run.settings.seed for run in worlds],
        "requests": len(table),
        "correlation of predicted and true gain": {
            str(seed): float(np.corrcoef(rows["predicted"], rows["gain"])[0, 1]) for seed, rows in table.groupby("seed")
        },
    }  # fmt: skip
    for name in ("log", "skewed"):
        told = (table["gain"], table[name], 0)
        full = budget.curve(images, table["predicted"], *told)
        found[name] = {
            **full,
            "predicted gain alone": budget.curve(images, table["predicted"] / table[name], *told)["earned"],
            "traffic alone": budget.curve(images, ones, *told)["earned"],
        }
    return found


def main() -> None:
    """Measure what the command line asks for and write result.json."""
    given = arguments(__doc__)
    text = json.dumps(measured([world(given, seed) for seed in given.seeds]))
    write_json(HERE / "result.json", json.loads(text, parse_float=lambda x: float(f"{float(x):.4g}")))


if __name__ == "__main__":
    main()
