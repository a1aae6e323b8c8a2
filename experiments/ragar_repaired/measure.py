"""RAGAR as published against RAGAR repaired: true gain in utility and content kept, on simulated users nobody learned from.

Every arm of a seed shares its users, features and ranking models, and the requests of users that no arm learned from or stopped
by. *untrained* arms stop before the first step: what they gain is retrieval's; of *swapped*, *shuffled* and *everybody*
(`placebos`) it is not from the user's own scores. *language model zeroed* is the trained arm drawn again with the calibrator's
inputs from P_gen and E_m set to zero.

Usage: python -m experiments.ragar_repaired.measure --seeds 1 2 3 (settings were chosen on seeds 900 and 901)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from experiments import harness, iamg
from experiments.ragar_repaired.placebos import PLACEBOS
from generators.ragar import RAGAR, Settings
from generators.ragar.examples import ExampleBuilder, training_examples
from generators.ragar.train import Trainer
from recgen import api as session
from recgen.config.loader import load_config
from recgen.core.io import write_json
from recgen.data.types import Request
from recgen.pipeline.context import RunContext
from recgen.recommender.reward import RewardModel
from recgen.stages.generate import generator
from recgen.stages.ranker import reward_model

HERE = Path(__file__).parent
REQUESTS = 60
ZEROED = " (language model zeroed)"
HISTORY = {"retrieve_from": "history", "weights": "similarity", "k": 5}
UNTRAINED = {"beta": 0.0, "max_steps": 1, "learning_rate": 1e-12}
ARMS: dict[str, dict[str, Any]] = {
    "both, untrained": UNTRAINED,
    "as published, untrained": {"preset": "paper", **UNTRAINED},
    "catalogue, untrained": {"retrieve_from": "catalogue", **UNTRAINED},
    "contents too, untrained": {"net_of_content": False, "kappa": 2.0, **UNTRAINED},
    "kappa 0, untrained": {"kappa": 0.0, **UNTRAINED},
    **{f"both, untrained, {name}": UNTRAINED for name in PLACEBOS},
    "history, untrained": {**HISTORY, **UNTRAINED},
    "repaired": {},
    "as published": {"preset": "paper"},
    "history, trained": HISTORY,
}
METRICS = ("true_utility_gain", "content_preservation", "score_gain_judge")


def main() -> None:
    """Run what is missing and write result.json."""
    given = harness.arguments(__doc__ or "", seeds=(1, 2, 3))
    work = given.work / "ragar_repaired"
    runs = {} if given.only_collect else {seed: prepared(work, seed) for seed in given.seeds}
    for name, changes in ARMS.items():
        for seed, run in runs.items():
            if not (work / f"arms/{seed}/{name}.parquet").exists():
                measure(run, work / f"arms/{seed}", name, changes)
    arms = [*ARMS, *(f"{name}{ZEROED}" for name in ("history, trained", "repaired"))]
    tables = {name: table(work, given.seeds, name) for name in arms}
    tables = {name: rows for name, rows in tables.items() if len(rows)}
    pairs = [(name, "as published") for name in tables] + [
        (name, "as published, untrained") for name in tables
    ]
    pairs += [("repaired", "both, untrained"), (f"repaired{ZEROED}", "repaired")]
    pairs += [("both, untrained", "contents too, untrained")]
    pairs += [(f"both, untrained, {name}", "both, untrained, everybody") for name in ("swapped", "shuffled")]
    result = {
        "means": {name: harness.means(rows, METRICS) for name, rows in tables.items()},
        "differences": {
            f"{a} minus {b}": harness.paired(tables[a], tables[b], METRICS)
            for a, b in pairs
            if a != b and a in tables and b in tables
        },
        "held-out reward": {
            name: {seed: found for seed in given.seeds if (found := curves(work, seed, name))}
            for name in tables
        },
    }
    harness.save(result, HERE / "result.json")


def prepared(work: Path, seed: int) -> RunContext:
    """Return a run of a seed with its data, features and ranking models made."""
    every, folder = [f"recgen.simulator.seed={seed}", f"recgen.seed={seed}"], work / f"seed{seed}"
    session.run(str(HERE / "recipe.yaml"), str(folder), every, "ranker")
    run = RunContext(load_config(str(HERE / "recipe.yaml"), every), folder)
    run.prepare_torch()
    return run


def measure(run: RunContext, folder: Path, name: str, changes: dict[str, Any]) -> None:
    """Fit one arm and keep what the truth and the judge say of its images, and its curves; where it trained, zeroed too."""
    reward, judge = reward_model(run, "reward"), reward_model(run, "judge")
    placebo = PLACEBOS.get(name.rpartition(", ")[2])
    if placebo is not None:
        reward = placebo(reward, run.data)
    made: RAGAR = generator(run, "ragar")
    made.config = Settings(**configured(run, changes))
    made.fit(run.data, reward, judge)
    folder.mkdir(parents=True, exist_ok=True)
    strangers = unknown(run, made)
    found = {"fit": made.curves.get("reward, held-out users", [])}
    judged(run, made, strangers, reward, judge).to_parquet(folder / f"{name}.parquet")
    if name in ("history, trained", "repaired"):
        zero_language_model(made)
        judged(run, made, strangers, reward, judge).to_parquet(folder / f"{name}{ZEROED}.parquet")
        found["zeroed"] = held_out_reward(run, made, reward)
    write_json(folder / f"{name}.json", found)


def configured(run: RunContext, changes: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe's sizes, and RAGAR's defaults or an arm's values for all else."""
    own = run.config.generators["ragar"].settings
    sizes = {"requests_per_step", "max_steps", "evaluate_every", "train_users", "held_out_users", "decode"}
    if changes.get("preset") != "paper":
        sizes |= {"r", "directions"}
    return {**{key: own[key] for key in sizes}, "train_decode": {"steps": 4}, **changes}


def unknown(run: RunContext, made: RAGAR, at_most: int = REQUESTS) -> list[Request]:
    """Return requests of users that were neither learned from nor held out."""
    return iamg.strangers(run, made, at_most)  # type: ignore[arg-type]


@torch.no_grad()
def zero_language_model(made: RAGAR) -> None:
    """Take from the calibrator what it reads of P_gen and E_m, all but P_ret."""
    language = sum(made.model.calibrator.inputs[part].basis.shape[1] for part in ("general", "language"))
    made.model.calibrator.correct.weight[:, :language] = 0


def held_out_reward(run: RunContext, made: RAGAR, reward: RewardModel) -> float:
    """Return the reward of the held-out users' images, as in training's curve."""
    examples = training_examples(ExampleBuilder(run.data, made.config, reward))
    trainer = Trainer(made.model, made.encoder, reward, None, made.config, run.data.run_seed)
    return trainer._evaluate(0, examples.held_out)


def judged(
    run: RunContext, made: RAGAR, requests: Sequence[Request], reward: RewardModel, judge: RewardModel
) -> pd.DataFrame:
    """Return a row per request: true gain, content kept, and the judge's gain."""
    creatives = list(made.generate(requests, run.data, reward))
    rows = iamg.judged(run, creatives)
    users, items = rows["user_id"].tolist(), rows["item_id"].tolist()
    embeddings = made.encoder.images([creative.image for creative in creatives])
    gained = judge.score(users, items, embeddings) - judge.score_original(users, items)
    return rows.assign(score_gain_judge=gained.detach().cpu().numpy())


def table(work: Path, seeds: Sequence[int], name: str) -> pd.DataFrame:
    """Return an arm's rows of the seeds that have it; users are named by seed and token."""
    files = [work / f"arms/{seed}/{name}.parquet" for seed in seeds]
    frames = [pd.read_parquet(file) for file in files if file.exists()]
    if not frames:
        return pd.DataFrame()
    rows = pd.concat(frames, ignore_index=True)
    return rows.assign(user_id=rows["seed"].astype(str) + "/" + rows["user_id"])


def curves(work: Path, seed: int, name: str) -> dict[str, Any]:
    """Return what training noted of the held-out users' reward."""
    file = work / f"arms/{seed}/{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


if __name__ == "__main__":
    main()
