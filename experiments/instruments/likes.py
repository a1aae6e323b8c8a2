"""How far can a judge be believed that has learned from likes alone, as most logs have nothing else?

``python -m experiments.instruments.likes --work FOLDER`` takes finished runs of order.yaml in FOLDER (order.py makes them), one a
seed, trains ranking models on the likes of the judge's half, through demo-clip, and asks them about the run's creatives: of an
item and user by every generator, and of an item by one generator for the user and for its other users. Values are correlations
of score and true utility within requests, as in calibration.py; intervals are over users. Which model `recgen init` takes was
seen on seeds 11 to 15; 16 to 20 are for reporting. Results go to likes.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import harness
from experiments.instruments.calibration import KINDS, Judges, Truths
from experiments.instruments.order import GROUPS, SEEDS
from recgen.config.loader import load_config
from recgen.config.presets import BLOCKS, QUICK
from recgen.core.seeding import seed_for
from recgen.metrics.calibration import within_requests
from recgen.pipeline.context import RunContext
from recgen.recommender.reward import Ranker
from recgen.stages.ranker import item_features

HERE = Path(__file__).parent
ASKED = ("generators", "users")
MODES = {"valid": "full", "test": "full"}
SAMPLED = {
    "threshold": None,
    "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0},
    "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": MODES},
    "metrics": ["Recall"],
    "topk": [20],
    "valid_metric": "Recall@20",
}  # fmt: skip
JUDGES: dict[str, tuple[str, dict[str, Any]]] = {
    "MICRO, preset quick": ("MICRO", BLOCKS[QUICK]["ranker"]["settings"]["MICRO"]),
    "MICRO": ("MICRO", {}),
    "VBPR": ("VBPR", {}),
    "VBPR, 20 epochs": ("VBPR", {"epochs": 20, "train_batch_size": 4096, "learning_rate": 1.0e-2}),
    "Verifier, sampled negatives": ("Verifier", SAMPLED),
}
"""Models and what of their defaults is changed."""


def table(run: RunContext, kind: str, judges: Judges, models: dict[str, Ranker]) -> pd.DataFrame:
    """Return a row per image: its group, user, true utility and every model's score."""
    shown = KINDS[kind](run)
    embeddings = judges.embedded("demo-clip", kind, shown)
    found = {
        name: model.score(shown.users, shown.items, embeddings).detach().double().cpu().numpy()
        for name, model in models.items()
    }
    rows = pd.DataFrame(
        {"group": shown.groups, "user": shown.users, "truth": Truths(run).of(shown)["truth"], **found}
    )
    return rows.assign(**{key: f"{run.settings.seed}/" + rows[key] for key in ("group", "user")})


def trained(run: RunContext, judges: Judges) -> tuple[dict[str, Ranker], dict[str, float]]:
    """Return the models, and what each took to train, in seconds."""
    image, _ = judges.features("demo-clip", False)
    models, seconds = {}, {}
    for name, (model, changes) in JUDGES.items():
        seed = seed_for(run.settings.seed, "ranker judge") % 2**31
        config = run.recbole_config(
            model, {"seed": seed, "item_features": item_features(run, image), **changes}
        )
        models[name], seconds[name] = judges.trained(config, run.split, None)
    return models, seconds


def main() -> None:
    """Measure every seed's run and write likes.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    given = parser.parse_args()
    tables: dict[int, dict[str, pd.DataFrame]] = {}
    seconds: dict[int, dict[str, float]] = {}
    for seed in given.seeds:
        folder = given.work / f"order{seed}"
        run = RunContext(load_config(str(folder / "config.yaml")), folder)
        run.prepare_torch()
        judges = Judges(run)
        models, seconds[seed] = trained(run, judges)
        tables[seed] = {kind: table(run, kind, judges, models) for kind in ASKED}
        print(seed, seconds[seed], flush=True)
    result: dict[str, Any] = {}
    for said, group in GROUPS.items():
        pooled = {kind: [tables[seed][kind] for seed in group if seed in tables] for kind in ASKED}
        if not pooled[ASKED[0]]:
            continue
        rows = {kind: pd.concat(each, ignore_index=True) for kind, each in pooled.items()}
        result[said] = {
            name: {
                kind: within_requests(t["group"], t["user"], t[name], t["truth"], seed=0).as_json()
                for kind, t in rows.items()
            }
            for name in JUDGES
        }
    result["seconds"] = {name: sum(each[name] for each in seconds.values()) / len(seconds) for name in JUDGES}
    harness.save(result, HERE / "likes.json")


if __name__ == "__main__":
    main()
