"""Compare `taste` with the methods of the papers, drawn for the same requests; writes generators.json.

Usage: python -m experiments.taste.generators [--work FOLDER] [--seeds 1 2 3 4 5] [--only-collect]

In the world of Verifier at 200 encounters; the runs and the rows of taste are those of `experiments.taste.measure` with the
same `--work`. What each is drawn with was chosen on seed 900 (`--seeds 900 --tried`, choice_generators.json).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from experiments import harness
from experiments.taste.measure import METRICS, REQUESTS
from experiments.taste.worlds import WORLDS, Measured, changes_of
from recgen import api
from recgen.config.loader import load_config
from recgen.core.io import write_parquet
from recgen.metrics.statistics import seed_mean
from recgen.pipeline.context import RunContext
from recgen.stages.generate import creatives

HERE = Path(__file__).parent
RECIPE = HERE / "generators.yaml"
WORLDED = ("verifier-200",)
NAMES = ("ragar", "iamg", "pmg", "rebeca", "stable_diffusion", "ip_adapter_mean")
TRIED = (*NAMES, "iamg_2", "iamg_3", "pmg_2", "pmg_3", "ip_adapter_mean_2", "ip_adapter_mean_3")


def main() -> None:
    """Draw what is not there yet, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--seeds", type=int, nargs="+", default=(1, 2, 3, 4, 5))
    parser.add_argument("--tried", action="store_true", help="draw everything that was tried")
    parser.add_argument("--only-collect", action="store_true")
    given = parser.parse_args()
    names, work = TRIED if given.tried else NAMES, given.work / "taste"
    for seed in [] if given.only_collect else given.seeds:
        for world in WORLDS:
            if world.name in WORLDED:
                _draw(work, world, seed, names)
    found = {world: _collected(work / world, given.seeds, names) for world in WORLDED}
    file = "choice_generators.json" if given.tried else "generators.json"
    harness.save({"requests per seed": REQUESTS, "worlds": found}, HERE / file)


def _draw(work: Path, world: Any, seed: int, names: Sequence[str]) -> None:
    folder = work / world.name / f"seed{seed}"
    if all((folder / f"{name}.generator.parquet").exists() for name in names):
        return
    changes = [*changes_of(world, seed), f"recgen.generators=[{', '.join(names)}]"]
    api.run(str(RECIPE), str(folder / "generators"), changes, "generate")
    run = RunContext(load_config(str(RECIPE), changes), folder / "generators")
    run.prepare_torch()
    measured = Measured(run, run.requests[:REQUESTS])
    for name in names:
        table = creatives(run, name)[0][:REQUESTS]
        images = [Image.open(run.folder / path).convert("RGB") for path in table["path"]]
        write_parquet(folder / f"{name}.generator.parquet", measured.table(images))
        print(f"{world.name} seed {seed}: {name} done", flush=True)


def _collected(folder: Path, seeds: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    def rows(name: str) -> pd.DataFrame:
        paths = [folder / f"seed{seed}/{name}.parquet" for seed in seeds]
        return pd.concat([pd.read_parquet(path) for path in paths if path.exists()], ignore_index=True)

    tables = {name: rows(f"{name}.generator") for name in names}
    if names == TRIED:
        return {name: harness.means(table, METRICS) for name, table in tables.items()}
    taste, ceiling = rows("both"), float(rows("bounds")["ceiling"].mean())
    return {
        "ceiling": ceiling,
        "generators": {
            name: {
                **harness.means(table, METRICS),
                "gain over seeds": seed_mean(table.groupby("seed")["gain"].mean()).as_json(),
                "share of the ceiling": float(table["gain"].mean()) / ceiling,
            }
            for name, table in {"taste": taste, **tables}.items()
        },
        "taste minus": {
            name: harness.paired(taste, table, ("gain", "content")) for name, table in tables.items()
        },
    }


if __name__ == "__main__":
    main()
