"""How RAGAR's retrieval was chosen, net of content or not, on seeds of no result: what an untrained RAGAR gains.

Usage: python -m experiments.ragar_repaired.choose
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from experiments import harness, iamg
from experiments.ragar_repaired.measure import METRICS, UNTRAINED, configured, prepared, unknown
from generators.ragar import RAGAR, Settings
from recgen.pipeline.context import RunContext
from recgen.stages.generate import generator
from recgen.stages.ranker import reward_model

HERE = Path(__file__).parent
SEEDS = (900, 901)
REQUESTS = 120
CHOICES = [
    {"net_of_content": net, "k": k, "tau": tau, "kappa": kappa, "scale": scale}
    for net, k, tau, kappa, scale in (
        (False, 5, 0.5, 2.0, 1.0), (False, 5, 0.5, 0.0, 1.0), (False, 10, 0.5, 0.0, 1.0), (False, 20, 1.0, 0.0, 1.0),
        (True, 5, 0.5, 2.0, 1.0), (True, 5, 0.5, 1.0, 1.0), (True, 5, 0.5, 0.0, 1.0),
    )
]  # fmt: skip


def main() -> None:
    """Draw the same requests under every choice, or those that are not drawn yet, and write choice.json."""
    given = harness.arguments(__doc__ or "", seeds=SEEDS)
    work = given.work / "ragar_repaired"
    if not given.only_collect:
        for seed in given.seeds:
            draw(prepared(work, seed), work / f"choice/{seed}")
    found = []
    for choice in CHOICES:
        files = [work / f"choice/{seed}/{named(choice)}.parquet" for seed in given.seeds]
        rows = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
        rows = rows.assign(user_id=rows["seed"].astype(str) + "/" + rows["user_id"])
        per_seed = {
            str(seed): gain for seed, gain in rows.groupby("seed")["true_utility_gain"].mean().items()
        }
        found.append({**choice, **harness.means(rows, METRICS), "true_utility_gain by seed": per_seed})
    harness.save({"requests a seed": REQUESTS, "choices": found}, HERE / "choice.json")


def named(choice: dict[str, Any]) -> str:
    """Return the name of a choice's file."""
    return ", ".join(f"{key} {value}" for key, value in choice.items())


def draw(run: RunContext, folder: Path) -> None:
    """Draw a seed's requests under every choice; untrained, RAGAR draws what it retrieves, so that one fit serves all."""
    reward, made = reward_model(run, "reward"), generator(run, "ragar")
    assert isinstance(made, RAGAR)
    made.config = Settings(**configured(run, UNTRAINED))
    made.fit(run.data, reward)
    folder.mkdir(parents=True, exist_ok=True)
    for choice in CHOICES:
        file = folder / f"{named(choice)}.parquet"
        if file.exists():
            continue
        decode = {**run.config.generators["ragar"].settings["decode"], "ip_adapter_scale": choice["scale"]}
        retrieval = {key: value for key, value in choice.items() if key != "scale"}
        made.config = Settings(**configured(run, {**UNTRAINED, **retrieval, "decode": decode}))
        rows = iamg.judged(run, list(made.generate(unknown(run, made, REQUESTS), run.data, reward)))
        rows.to_parquet(file)
        print(run.settings.seed, named(choice), rows["true_utility_gain"].mean(), flush=True)


if __name__ == "__main__":
    main()
