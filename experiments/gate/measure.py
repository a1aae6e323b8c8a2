"""How right is the gate? Its precision and recall by the simulator's truth.

Worlds of `recipe.yaml`, one a seed: 48 requests drawn blind for each of three generators. *Precision* is the share of the
accepted creatives that show the item by the truth (`keeps`: the attribute reader finds the item's own motif), and, separately,
that the user truly likes more than the item's own image (`helps`). *Recall* is the share of those that do that are accepted.
Floors were chosen on seed 900, which no figure uses.

What nothing earns: `all` is the precision of a gate that accepts everything; `shuffled` gives the same number of acceptances to
creatives at random (mean of 200 shuffles within a generator). `whom` asks other models whether a creative helps.

    python -m experiments.gate.measure --work runs/gate
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen import api
from recgen.config.gate import Gate
from recgen.config.loader import load_config
from recgen.core.io import write_json
from recgen.metrics import gate as metrics
from recgen.metrics.statistics import bootstrap_mean
from recgen.pipeline.context import RunContext
from recgen.stages.creative_batch import load
from recgen.stages.gate import decided, predicted_gain
from recgen.stages.measure import by_truth

HERE = Path(__file__).parent
SEEDS = (1, 2, 3, 4, 5)
MODELS = {"nobody": [], "verifier": ["verifier"], "judge": ["judge"], "judge and verifier": ["judge", "verifier"],
          "judge, verifier and reward": ["judge", "verifier", "reward"]}  # fmt: skip
"""Whom a gate may ask whether a creative helps."""
ATTRIBUTES, TEXTS = (0.0, 0.25, 0.5, 0.75, 0.9), (0.05, 0.1, 0.2, 1.0)
SHUFFLES = 200


def arguments(description: str | None) -> argparse.Namespace:
    """Read --work, --seeds and --only-collect."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", type=Path, default=Path("runs/gate"))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument(
        "--only-collect", action="store_true", help="take finished runs as they are; run nothing"
    )
    return parser.parse_args()


def world(given: argparse.Namespace, seed: int) -> RunContext:
    """Return the run of a seed, up to the gate; what is done already is not done again."""
    folder = given.work / f"seed{seed}"
    changes = [f"recgen.seed={seed}", f"recgen.simulator.seed={seed}"]
    if not given.only_collect:
        api.run(str(HERE / "recipe.yaml"), str(folder), changes, "gate")
    run = RunContext(load_config(str(folder / "config.yaml")), folder)
    run.prepare_torch()
    return run


def evidence(run: RunContext) -> pd.DataFrame:
    """Return what the gate finds of all creatives of a run, the gain by each choice of models, and the truth, row by row."""
    tables = []
    for name in run.settings.generators:
        made = load(run, name)
        truth = by_truth(run, made)
        table = decided(run, made).assign(generator=name)
        for asked, models in MODELS.items():
            table[f"gain by {asked}"] = predicted_gain(run, made, Gate(models=models))
        for column in ("content_preservation", "true_utility_gain"):
            table[column] = truth[column]
        tables.append(table)
    found = pd.concat(tables, ignore_index=True)
    return found.assign(user_id=f"{run.settings.seed}/" + found["user_id"], seed=run.settings.seed)


def summary(table: pd.DataFrame, gate: Gate) -> dict[str, Any]:
    """Return what a gate does with creatives, and with as many at random."""
    verdicts = metrics.decide(table, gate)
    found = metrics.summary(verdicts, table["user_id"].to_numpy(), table, seed=0)
    return {**found, "shuffled": _shuffled(table, (verdicts == metrics.ACCEPTED).to_numpy())}


def _shuffled(table: pd.DataFrame, accepted: np.ndarray) -> dict[str, float | None]:
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(table["generator"] == name) for name in table["generator"].unique()]
    keeps, helps = table["content_preservation"].to_numpy() == 1, table["true_utility_gain"].to_numpy() > 0
    found: dict[str, list[float]] = {"keeps": [], "helps": []}
    for _ in range(SHUFFLES if accepted.any() else 0):
        chosen = accepted.copy()
        for rows in groups:
            chosen[rows] = rng.permutation(accepted[rows])
        found["keeps"].append(float(keeps[chosen].mean()))
        found["helps"].append(float(helps[chosen].mean()))
    return {name: float(np.mean(values)) if values else None for name, values in found.items()}


def measured(table: pd.DataFrame, seeds: Sequence[int]) -> dict[str, Any]:
    """Return all figures: the default gate by generator and pooled, by seed, its floors, and whom it asks."""
    default = Gate()
    chosen = table.assign(gain=table["gain by judge and verifier"])
    by_seed = {str(seed): summary(chosen[chosen["seed"] == seed], default) for seed in seeds}
    floors = [
        _point(chosen, default.model_copy(update={"attributes": a, "text": t, "models": []}))
        for a in ATTRIBUTES
        for t in TEXTS
    ]
    content = default.model_copy(update={"models": []})
    whom = {
        asked: summary(table.assign(gain=table[f"gain by {asked}"]), default if models else content)
        for asked, models in MODELS.items()
    }
    return {
        "seeds": list(seeds), "n": len(table),
        "default": {"all": summary(chosen, default)} | {
            str(name): summary(rows, default) for name, rows in chosen.groupby("generator", sort=False)
        },
        "by seed": by_seed, "content alone": summary(chosen, content), "floors": floors, "whom": whom,
    }  # fmt: skip


def _point(table: pd.DataFrame, gate: Gate) -> dict[str, Any]:
    accepted = (metrics.decide(table, gate) == metrics.ACCEPTED).to_numpy()
    keeps = (table["content_preservation"] == 1).to_numpy()
    users = table["user_id"].to_numpy()
    return {
        "attributes": gate.attributes,
        "text": gate.text,
        "precision": bootstrap_mean(keeps[accepted], users[accepted], 0).as_json(),
        "recall": bootstrap_mean(accepted[keeps], users[keeps], 0).as_json(),
    }


def main() -> None:
    """Measure what the command line asks for and add it to result.json."""
    given = arguments(__doc__)
    table = pd.concat([evidence(world(given, seed)) for seed in given.seeds], ignore_index=True)
    result = measured(table, given.seeds)
    write_json(
        HERE / "result.json", json.loads(json.dumps(result), parse_float=lambda x: float(f"{float(x):.4g}"))
    )


if __name__ == "__main__":
    main()
