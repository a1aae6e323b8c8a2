"""Tuning on the demo by the judge: what a study finds on validation, and whether it holds on the test split, by the truth too.

A study for each generator, whose objective is how much more the judge gives for an item with the user's own creative than with
another user's, in standard deviations of the user's scores (`judge_net_of_swapped`). The study's data, requests and ranking
models are those of the demo's own run seed. Winner and configuration are then compared on the test split under five other run
seeds, each with requests, splits, ranking models and noises of its own. Results go to result.json beside this file.

Usage: python -m experiments.tune.measure [--trials 20] [--workers 1] [--work FOLDER] [--seeds 1 2 3 4 5]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from experiments import harness
from recgen import api, tuning
from recgen.metrics.contrasts import REQUEST
from recgen.metrics.statistics import paired_seeds
from recgen.tuning.study import counted, open_storage, winner

RESULT = Path(__file__).with_name("result.json")
SPACES: dict[str, dict[str, Any]] = {
    "ip_adapter_mean": {
        "ip_adapter_mean.decode.ip_adapter_scale": {"low": 0.1, "high": 1.5},
        "ip_adapter_mean.decode.guidance_scale": {"low": 1.0, "high": 10.0},
    },
    "taste": {
        "taste.k": {"low": 3, "high": 80, "log": True},
        "taste.keep": {"low": 0.5, "high": 1.0},
        "taste.decode.ip_adapter_scale": {"low": 0.1, "high": 1.5},
        "taste.decode.guidance_scale": {"low": 1.0, "high": 10.0},
    },
}
GAIN, TRUTH, CONTENT = "standardised_gain_judge", "true_utility_gain", "content_preservation"
SHARED = ["recgen.threads=1", "recgen.workers=1", "recgen.controls=[swapped]", "recgen.downstream.items=0"]


def main() -> None:
    """Run what is not there yet and write result.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/experiments/tune"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3, 4, 5])
    given = parser.parse_args()
    result: dict[str, Any] = {}
    for name in SPACES:
        found = studied(given.work / name, name, given.trials, given.workers)
        values = [f"recgen.{key}={value}" for key, value in found["winner"]["params"].items()]
        tables: dict[str, list[pd.DataFrame]] = {"winner": [], "configuration": []}
        for seed in given.seeds:
            for which, changes in {"configuration": [], "winner": values}.items():
                own = [*SHARED, f"recgen.generators=[{name}]", f"recgen.seed={seed}", *changes]
                folder = given.work / name / f"test/{which}{seed}"
                api.run("demo", str(folder), own, until="evaluate")
                tables[which].append(measured(folder, name, seed))
        result[name] = found | {"test": compared(tables)}
        harness.save(result, RESULT)


def studied(work: Path, name: str, trials: int, workers: int) -> dict[str, Any]:
    """Run a generator's study, and return its trials, the winner and the configuration's own values, on validation."""
    own = [
        f"recgen.generators=[{name}]",
        f"recgen.tune.space={json.dumps(SPACES[name])}",
        "recgen.tune.objectives=[judge_net_of_swapped]",
        f"recgen.tune.study={name}",
    ]
    tuning.tune("demo", trials, None, workers, str(work / "study"), [*SHARED, *own])
    return told(work / "study", name)


def told(work: Path, name: str | None = None) -> dict[str, Any]:
    """Return a finished study's trials, winner and the configuration's own values; without a name, the only study's."""
    done = counted(optuna.load_study(study_name=name, storage=open_storage(None, work, 60)))
    best = winner(done)
    assert best is not None
    shown = [
        {"params": trial.params, "value": trial.value, "seconds": trial.user_attrs.get("seconds")}
        for trial in done
    ]
    return {"configuration": shown[0], "winner": shown[done.index(best)], "trials": shown}


def measured(folder: Path, name: str, seed: int) -> pd.DataFrame:
    """Return a row per request of a finished run: the judge's and the true gain net of another user's creative, and content."""
    own, other = (
        pd.read_parquet(folder / f"evaluation/{source}{name}.parquet") for source in ("", "swapped.")
    )
    both = own.merge(other, on=REQUEST, suffixes=("", "_other"))
    return pd.DataFrame({
        "user_id": both["user_id"],
        "seed": seed,
        "judge, net of swapped": both[GAIN] - both[f"{GAIN}_other"],
        "truth, net of swapped": both[TRUTH] - both[f"{TRUTH}_other"],
        "true gain": both[TRUTH],
        "content kept": both[CONTENT],
    })  # fmt: skip


def compared(tables: dict[str, list[pd.DataFrame]]) -> dict[str, Any]:
    """Return the means of winner and configuration by seed, and their difference, paired over seeds (95% t interval)."""
    found: dict[str, Any] = {}
    for metric in [column for column in tables["winner"][0] if column not in ("user_id", "seed")]:
        means = {which: [float(np.mean(table[metric])) for table in rows] for which, rows in tables.items()}
        difference = paired_seeds(means["winner"], means["configuration"])
        found[metric] = means | difference.as_json("winner", "configuration", metric)
    return found


if __name__ == "__main__":
    main()
