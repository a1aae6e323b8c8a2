"""How near the verifier comes to the true taste: held-out AUC of both on the same encounters of simulated users.

Each case is a run of its own, stopped after the features, on users, items and likes of a fresh simulator seed; the verifier is
then trained exactly as a run trains it. Results go to result.json beside this file; cases that are there are skipped.

usage: python experiments/verifier_auc/measure.py [--encounters 100 400 800] [--hidden 0 128] [--seeds 31 32]
       [--users 500] [--items 1000] [--set KEY=VALUE ...] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

from recgen.config.loader import load_config
from recgen.core.io import write_json
from recgen.data.simulation.simulator import Truth, true_auc
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.stages import ranker

RESULT = Path(__file__).with_name("result.json")


def config(folder: Path, case: dict[str, int], hidden: int, overrides: list[str]) -> Any:
    """Return the checked configuration of one case."""
    size = {key: case[key] for key in ("users", "items", "seed")}
    settings = {
        "seed": case["seed"],
        "threads": 1,
        "simulator": {**size, "interactions_per_user": case["encounters"]},
        "ranker": {"settings": {"Verifier": {"hidden_size": hidden}}},
    }
    path = folder / "case.yaml"
    path.write_text(json.dumps({"dataset": "simulated", "recgen": settings}), encoding="utf-8")
    return load_config(str(path), overrides)


def measure(folder: Path, case: dict[str, int], hidden: int, overrides: list[str]) -> dict[str, Any]:
    """Train one verifier and return its held-out AUC, the true taste's, and what it took."""
    run = RunContext(config(folder, case, hidden, overrides), folder / "run")
    started = time.perf_counter()
    pipeline.execute(run, until="features")
    data_seconds = time.perf_counter() - started
    ranker.train(run, "verifier")
    record = json.loads((run.folder / "ranker/verifier/training.json").read_text(encoding="utf-8"))
    truth, rows = (
        Truth.load(run.folder / "dataset/simulator"),
        ranker.held_out(run, run.settings.ranker.verifier),
    )
    best = true_auc(
        truth,
        rows["user_id"].tolist(),
        truth.attributes_of(rows["item_id"].tolist()),
        rows["like"].to_numpy(),
    )
    return {
        "auc": record["test"]["auc"],
        "true_auc": round(best, 4),
        "short_by": round(best - record["test"]["auc"], 4),
        "held_out": len(rows),
        "epochs": len(record["epochs"]),
        "train_seconds": round(record["seconds"], 1),
        "data_seconds": round(data_seconds, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("encounters", [100, 400, 800]), ("hidden", [0, 128]), ("seeds", [31, 32])):
        parser.add_argument(f"--{name}", type=int, nargs="+", default=default)
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    rows = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else []
    for seed, encounters in product(options.seeds, options.encounters):
        case = {"users": options.users, "items": options.items, "encounters": encounters, "seed": seed}
        with tempfile.TemporaryDirectory() as folder:
            for hidden in options.hidden:
                key = {**case, "hidden_size": hidden, "settings": options.overrides}
                if any(all(row[name] == value for name, value in key.items()) for row in rows):
                    continue
                rows.append({**key, **measure(Path(folder), case, hidden, options.overrides)})
                print(rows[-1], flush=True)
                write_json(options.out, rows)


if __name__ == "__main__":
    main()
