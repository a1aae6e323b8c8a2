"""Does the headline order generators as the truth does?

``python -m experiments.instruments.order --work FOLDER`` runs order.yaml, twelve generators on the same blind requests, in a
simulated world for each seed, up to evaluate (``--only-collect`` reads finished runs), and writes order.json: every generator's
headline by the judge (own minus another user's creative, net of the placebo), in standard deviations of the user's scores and in
places of the list, the same difference by the truth and the mean true gain, and Kendall's tau-b of the orders. What the placebo
earns is subtracted from all alike and orders nothing; verdicts ask for it. Intervals of the mean tau over seeds resample the
generators. That scores order better than places do was seen on the seeds 11 to 15; what the headline is worth is said by 16 to
20. Beside them stand the differences that the papers' claims are about (experiments/reproduction.md), over the requests of all
worlds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from experiments import harness
from recgen import api
from recgen.metrics.contrasts import CONTROL, REQUEST, contrasts, corrected
from recgen.metrics.statistics import paired_difference
from recgen.pipeline.controls import PLACEBO

HERE = Path(__file__).parent
GROUPS = {"seeds 11 to 15": (11, 12, 13, 14, 15), "seeds 16 to 20": (16, 17, 18, 19, 20)}
"""Worlds in which something was seen, and fresh ones for what is reported of it."""
SEEDS = [seed for group in GROUPS.values() for seed in group]
HEADLINES = {"headline": "standardised_gain_judge", "headline in places": "percentile_gain_judge"}
TRUTH = "true_utility_gain"
DRAWS = 2000
PAIRS = (
    ("ragar_paper", "stable_diffusion"),
    ("ragar_paper", "pmg"),
    ("ragar_paper", "textual_inversion"),
    ("ragar_paper", "ip_adapter_mean"),
    ("ragar", "ragar_untrained"),
    ("iamg", "textual_inversion"),
    ("pmg", "stable_diffusion"),
)
"""Which generators the papers' claims compare."""
COMPARED = (TRUTH, "content_preservation", "cis", "cps", "cpis")


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
            **{said: contrast(name, "net of placebo", metric) for said, metric in HEADLINES.items()},
            "own minus swapped, truth": contrast(name, "swapped", TRUTH),
            "true gain": means[TRUTH]["value"],
            "content kept": means["content_preservation"]["value"],
        }
        for name, means in metrics["creatives"].items()
    }


def tau(found: dict[str, dict[str, float]], headline: str, truth: str, names: list[str]) -> float:
    """Return Kendall's tau-b of a headline's and a truth's order of some generators, which may repeat."""
    said, true = ([found[name][key] for name in names] for key in (headline, truth))
    return float(kendalltau(said, true).statistic)


def summary(seeds: dict[int, dict[str, dict[str, float]]], headline: str) -> dict[str, Any]:
    """Return tau by seed and truth, and the mean over seeds with its interval."""
    names = list(next(iter(seeds.values())))
    rng = np.random.default_rng(0)
    draws = [list(rng.choice(names, len(names))) for _ in range(DRAWS)]
    result: dict[str, Any] = {}
    for truth in ("own minus swapped, truth", "true gain"):
        by_seed = {seed: tau(found, headline, truth, names) for seed, found in seeds.items()}
        means = [np.mean([tau(found, headline, truth, drawn) for found in seeds.values()]) for drawn in draws]
        low, high = np.nanquantile(means, [0.025, 0.975])
        result[truth] = {
            "by seed": by_seed,
            "mean": float(np.mean(list(by_seed.values()))),
            "low": low,
            "high": high,
        }
    return result


def differences(folders: Sequence[Path], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the pairs' differences, and each generator's own minus another user's creative with and without the placebo's.

    A user is one of a world. The p-values ``p_holm`` are corrected for how many these are.
    """
    tables = {name: _pooled(folders, name) for name in names}
    found = [
        paired_difference(tables[a][key], tables[b][key], tables[a]["user_id"], 0).as_json(a, b, key)
        for a, b in PAIRS
        for key in COMPARED
    ]
    truths = {name: table[[*REQUEST, TRUTH]] for name, table in tables.items()}
    swapped = {name: _pooled(folders, f"swapped.{name}")[[*REQUEST, TRUTH]] for name in (*names, PLACEBO)}
    placebo = {PLACEBO: _pooled(folders, PLACEBO)[[*REQUEST, TRUTH]]}
    personal = contrasts(truths, swapped, placebo, PLACEBO, 0)
    found += [{**each, "primary": False} for each in personal if each["kind"] != CONTROL]
    return corrected(found)


def _pooled(folders: Sequence[Path], name: str) -> pd.DataFrame:
    """Return what the worlds' runs measured of a generator or control, users named by their world too."""
    tables = ((folder.name, pd.read_parquet(folder / f"evaluation/{name}.parquet")) for folder in folders)
    return pd.concat(
        [table.assign(user_id=f"{world}/" + table["user_id"]) for world, table in tables], ignore_index=True
    )


def main() -> None:
    """Run, collect and write order.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--only-collect", action="store_true")
    given = parser.parse_args()
    for seed in [] if given.only_collect else given.seeds:
        changes = [f"recgen.seed={seed}", f"recgen.simulator.seed={seed}"]
        api.run(str(HERE / "order.yaml"), str(given.work / f"order{seed}"), changes, until="evaluate")
    folders = {seed: given.work / f"order{seed}" for seed in given.seeds}
    seeds = {seed: collected(folder) for seed, folder in folders.items()}
    result = {
        "requests": 80,
        "kendall's tau-b": {
            said: {
                name: summary({seed: seeds[seed] for seed in group if seed in seeds}, said)
                for name, group in GROUPS.items()
                if set(group) & set(seeds)
            }
            for said in HEADLINES
        },
        "generators": seeds,
        "differences": differences(list(folders.values()), list(seeds[given.seeds[0]])),
    }
    harness.save(result, HERE / "order.json")


if __name__ == "__main__":
    main()
