"""Tuning RAGAR on the demo: what 20 trials find on validation, and whether it holds on the test split.

Runs `recgen tune --config demo` and, for comparison, the demo as it is on the test split. Results go to result.json
beside this file.

usage: python -m experiments.tune.measure [--trials 20] [--workers 2] [--work runs/experiments/tune]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import optuna

from recgen import api as session
from recgen import tuning
from recgen.core.io import write_json
from recgen.metrics.statistics import paired_seeds
from recgen.tuning.study import counted, open_storage, winner
from recgen.tuning.trial import METRICS

RESULT = Path(__file__).with_name("result.json")


def main() -> None:
    """Run what is not there yet and write result.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/experiments/tune"))
    given = parser.parse_args()
    tuning.tune("demo", given.trials, None, given.workers, str(given.work / "study"), ["recgen.threads=1"])
    session.run("demo", str(given.work / "base-test"), ["recgen.threads=1"], until="downstream")
    write_json(RESULT, collect(given.work / "study", given.work / "base-test"))


def collect(root: Path, base: Path) -> dict[str, Any]:
    """Return all trials of a study, and winner and first settings on validation and on test, over paired training seeds."""
    study = optuna.load_study(study_name="demo", storage=open_storage(None, root, 60))
    trials = counted(study)
    best = winner(trials)
    assert best is not None
    test = {name: {"winner": _seeds(root / "winner", name), "base": _seeds(base, name)} for name in METRICS}
    valid = {
        name: {"winner": best.user_attrs["seeds"][name], "base": trials[0].user_attrs["seeds"][name]}
        for name in METRICS
    }
    return {
        "trials": [
            {
                "number": trial.number,
                "state": trial.state.name,
                "values": trial.values,
                "params": trial.params,
                "seconds": trial.user_attrs.get("seconds"),
                "tasks": trial.user_attrs.get("tasks"),
            }
            for trial in trials
        ],
        "winner": best.number,
        "validation": _compared(valid),
        "test": _compared(test),
    }


def _seeds(run: Path, metric: str) -> list[float]:
    files = sorted((run / "downstream/ragar").glob("*/results.json"))
    return [json.loads(path.read_text(encoding="utf-8"))[metric] for path in files]


def _compared(values: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    return {
        name: {**both, **paired_seeds(both["winner"], both["base"]).as_json("winner", "base", name)}
        for name, both in values.items()
    }


if __name__ == "__main__":
    main()
