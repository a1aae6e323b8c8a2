"""Does the headline order generators as the truth does?

``python -m experiments.instruments.order --work FOLDER`` runs order.yaml, twelve generators on the same blind requests, in a
simulated world for each seed, up to evaluate (``--only-collect`` reads finished runs), and writes order.json: every generator's
headline by the judge (own minus another user's creative, percentile gain, net of the placebo), the same difference by the truth
and the mean true gain, and Kendall's tau-b of the orders. What the placebo earns is subtracted from all alike and orders nothing;
verdicts ask for it. Intervals of the mean tau over seeds resample the generators.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from experiments import harness
from recgen import api

HERE = Path(__file__).parent
SEEDS = (11, 12, 13)
JUDGE, TRUTH = "percentile_gain_judge", "true_utility_gain"
DRAWS = 2000


def collected(folder: Path) -> dict[str, dict[str, float]]:
    """Return each generator's numbers from a finished run."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))

    def contrast(name: str, kind: str, metric: str) -> float:
        found = [
            each
            for each in metrics["tests"]["contrasts"]
            if (each["a"], each["kind"], each["metric"]) == (name, kind, metric)
        ]
        return float(found[0]["difference"])

    return {
        name: {
            "headline": contrast(name, "net of placebo", JUDGE),
            "own minus swapped, truth": contrast(name, "swapped", TRUTH),
            "true gain": means[TRUTH]["value"],
            "content kept": means["content_preservation"]["value"],
        }
        for name, means in metrics["creatives"].items()
    }


def tau(found: dict[str, dict[str, float]], truth: str, names: list[str]) -> float:
    """Return Kendall's tau-b of the headline's and the truth's order of some generators, which may repeat."""
    headline, true = ([found[name][key] for name in names] for key in ("headline", truth))
    return float(kendalltau(headline, true).statistic)


def summary(seeds: dict[int, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Return tau by seed and truth, and the mean over seeds with its interval."""
    names = list(next(iter(seeds.values())))
    rng = np.random.default_rng(0)
    draws = [list(rng.choice(names, len(names))) for _ in range(DRAWS)]
    result: dict[str, Any] = {}
    for truth in ("own minus swapped, truth", "true gain"):
        by_seed = {seed: tau(found, truth, names) for seed, found in seeds.items()}
        means = [np.mean([tau(found, truth, drawn) for found in seeds.values()]) for drawn in draws]
        low, high = np.nanquantile(means, [0.025, 0.975])
        result[truth] = {
            "by seed": by_seed,
            "mean": float(np.mean(list(by_seed.values()))),
            "low": low,
            "high": high,
        }
    return result


def main() -> None:
    """Run, collect and write order.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--only-collect", action="store_true")
    given = parser.parse_args()
    for seed in [] if given.only_collect else given.seeds:
        changes = [f"recgen.seed={seed}", f"recgen.simulator.seed={seed}"]
        api.run(str(HERE / "order.yaml"), str(given.work / f"order{seed}"), changes, until="evaluate")
    seeds = {seed: collected(given.work / f"order{seed}") for seed in given.seeds}
    harness.save(
        {"requests": 80, "kendall's tau-b": summary(seeds), "generators": seeds}, HERE / "order.json"
    )


if __name__ == "__main__":
    main()
