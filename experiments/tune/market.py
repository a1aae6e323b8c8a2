"""Tuning by clicks: a study of a generator in one simulated shop, and whether its winner earns more clicks in others.

The objective is `market_uplift`, the clicks per 1,000 pages that creatives gain over the items' own images. The study's users,
items, tastes, log, ranking models, noises and clicks are those of seed 900; winner and configuration are then compared in five
other shops, each with all of these by its own seed. Results go to market.json beside this file.

Usage: python -m experiments.tune.market [--trials 20] [--work FOLDER] [--seeds 1 2 3 4 5]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from experiments import harness
from experiments.tune.measure import told
from recgen import api, tuning
from recgen.metrics.statistics import paired_seeds

RESULT = Path(__file__).with_name("market.json")
NAME, STUDIED = "ip_adapter_mean", 900
SPACE = {
    "ip_adapter_mean.decode.ip_adapter_scale": {"low": 0.2, "high": 2.0},
    "ip_adapter_mean.decode.guidance_scale": {"low": 1.0, "high": 8.0},
}
SHARED = [
    f"recgen.generators=[{NAME}]", "recgen.controls=[original]", "recgen.downstream.items=0",
    "recgen.market={users: 40, candidates: 20, rounds: 1, pages: 40, own_worlds: false, negative_control: false, controls: []}",
    "recgen.threads=1", "recgen.workers=1",
]  # fmt: skip

TESTED = ["recgen.downstream.seeds=1", "recgen.downstream.controls=false"]
"""Of the trainings beside the market's own, which say nothing here."""


def main() -> None:
    """Run what is not there yet and write market.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--work", type=Path, default=Path("runs/experiments/tune_market"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3, 4, 5])
    given = parser.parse_args()
    found = studied(given.work / "study", given.trials)
    values = [f"recgen.{key}={value}" for key, value in found["winner"]["params"].items()]
    uplifts: dict[str, list[dict[str, float]]] = {"winner": [], "configuration": []}
    for seed in given.seeds:
        for which, changes in {"configuration": [], "winner": values}.items():
            folder = given.work / f"test/{which}{seed}"
            api.run("simulated", str(folder), [*SHARED, *TESTED, *shop(seed), *changes], until="market")
            uplifts[which].append(clicks(folder))
        harness.save(found | {"test": compared(uplifts, given.seeds)}, RESULT)


def shop(seed: int) -> list[str]:
    """Return the overrides of a shop of its own: users, items and tastes, and everything drawn from the run's seed."""
    return [f"recgen.seed={seed}", f"recgen.simulator.seed={seed}"]


def studied(work: Path, trials: int) -> dict[str, Any]:
    """Run the study, and return its trials, the winner and the configuration's own values."""
    asked = [f"recgen.tune.space={json.dumps(SPACE)}", "recgen.tune.objectives=[market_uplift]"]
    tuning.tune("simulated", trials, None, 1, str(work), [*SHARED, *shop(STUDIED), *asked])
    return told(work)


def clicks(folder: Path) -> dict[str, float]:
    """Return clicks per 1,000 pages of the originals and of the generator, and the difference."""
    summary = json.loads((folder / "market/summary.json").read_text(encoding="utf-8"))
    (effect,) = summary["effects"].values()
    own, original = (float(effect["ab"][arm]["clicks"]["value"]) for arm in (NAME, "original"))
    return {"original": original, "creatives": own, "uplift": own - original}


def compared(uplifts: dict[str, list[dict[str, float]]], seeds: list[int]) -> dict[str, Any]:
    """Return the shops' clicks and the winner's uplift less the configuration's, paired over shops (95% t interval)."""
    done = len(uplifts["winner"])
    means = {which: [row["uplift"] for row in rows[:done]] for which, rows in uplifts.items()}
    found: dict[str, Any] = {"seeds": seeds[:done], "clicks per 1,000 pages": uplifts}
    if done > 1:
        difference = paired_seeds(means["winner"], means["configuration"])
        found |= difference.as_json("winner", "configuration", "market uplift")
    return found


if __name__ == "__main__":
    main()
