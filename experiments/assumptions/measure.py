"""The paper's figure 2: what MICRO learns from k interactions a user, chosen by retrieval or at random.

Ret: the k most similar to the reference by caption; Exp-Ret: the next k; Random: k of all. The reference is the test item, so Ret
is told something of the answer; "Ret, another's reference" retrieves as well, by the reference of another user, and is not.
Usage: python -m experiments.assumptions.measure
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments import harness
from generators.ragar.retrieval import retrieve
from recgen.config.loader import load_config
from recgen.core.seeding import numpy_rng, seed_for
from recgen.metrics.statistics import paired_seeds, seed_mean
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.recommender import recbole
from recgen.recommender.training import train
from recgen.stages.ranker import item_features

HERE = Path(__file__).parent
K = 5
CHOICES = ("Ret", "Exp-Ret", "Random", "Ret, another's reference")
METRICS = ("recall@10", "ndcg@10")
TRAINING = {
    "epochs": 20,
    "eval_step": 2,
    "train_batch_size": 512,
    "learning_rate": 5e-3,
    "contrastive_items": 256,
}


def kept(run: RunContext, choice: str, seed: int) -> np.ndarray:
    """Return which training interactions are kept: bool ``[n_train]``, at most K a user."""
    whole, train, test = run.split.whole, run.split.train.inter_feat, run.split.test.inter_feat
    data = run.data
    users, items = train[whole.uid_field].numpy(), train[whole.iid_field].numpy()
    wanted = dict(zip(test[whole.uid_field].tolist(), test[whole.iid_field].tolist(), strict=True))
    tokens = whole.id2token(whole.iid_field, range(whole.item_num))
    rows_of = {number: data.item_rows[token] for number, token in enumerate(tokens) if number}
    others = dict(
        zip(wanted, numpy_rng(seed, "another's reference").permutation(list(wanted.values())), strict=True)
    )
    keep = np.zeros(len(users), dtype=bool)
    for user in np.unique(users):
        mine = np.flatnonzero(users == user)
        if choice == "Random" or user not in wanted:
            token = str(whole.id2token(whole.uid_field, user))
            keep[numpy_rng(seed, "random history", token).permutation(mine)[:K]] = True
            continue
        target = others[user] if choice.startswith("Ret,") else wanted[user]
        history = [rows_of[item] for item in items[mine]]
        found = retrieve(
            history, rows_of[int(target)], data.caption_features, data.image_features, 2 * K
        ).rows
        chosen = set(found[K : 2 * K] if choice == "Exp-Ret" else found[:K])
        keep[[row for row, item in zip(mine, history, strict=True) if item in chosen]] = True
    return keep


def test(run: RunContext, choice: str, seed: int) -> dict[str, float]:
    """Train MICRO on one choice and return its test results."""
    numbers = {"seed": seed_for(seed, "assumptions") % 2**31, "item_features": item_features(run)}
    extra = {**TRAINING, **numbers}
    config = run.recbole_config("MICRO", extra)
    data = recbole.loaders(config, run.split, kept(run, choice, seed))
    run.prepare_torch()
    trained = train(config, data)
    found = trained.trainer.evaluate(data.test, load_best_model=False, show_progress=False)
    return {name: float(found[name]) for name in METRICS}


def main() -> None:
    """Run all choices and write result.json."""
    given = harness.arguments(__doc__ or "", seeds=(1, 2, 3, 4, 5))
    result: dict = {"seeds": given.seeds, "k": K}
    for name, recipe in (("ml-100k", "movielens.yaml"), ("simulated", "simulated.yaml")):
        run = RunContext(load_config(str(HERE.parent / recipe)), given.work / "assumptions" / name)
        pipeline.execute(run, until="features")
        found = {choice: [test(run, choice, seed) for seed in given.seeds] for choice in CHOICES}
        print(name, found, flush=True)
        result[name] = {
            metric: {
                **{
                    choice: seed_mean([row[metric] for row in rows]).as_json()
                    for choice, rows in found.items()
                },
                "paired": {
                    f"{a} - {b}": paired_seeds(
                        *([row[metric] for row in found[one]] for one in (a, b))
                    ).as_json(a, b, metric)
                    for a, b in (
                        ("Ret", "Exp-Ret"),
                        ("Ret", "Random"),
                        ("Exp-Ret", "Random"),
                        (CHOICES[3], "Random"),
                    )
                },
            }
            for metric in METRICS
        }
    harness.save(result, HERE / "result.json")


if __name__ == "__main__":
    main()
