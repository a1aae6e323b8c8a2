"""Do eyes for photographs rank better than the demo's? MICRO and VBPR on demo-clip, and on EfficientNet-Lite0 and WordLlama.

    python -m experiments.photos.measure CONFIG RESULT.json [--seeds 1 2 3]

CONFIG is a configuration as `recgen init` writes it, whose settings of the models are taken as they are. Each model is trained on
each source of features with the same seeds. Measured are Recall@10 of each user's last like and its AUC, the share of items that
rank below it, among all items but those that the user is known to like. Controls: both sources' features dealt out to other
items, and one feature for all. Where a model reads texts too, the photographs' features also stand beside demo-clip's texts.
Intervals are over users, of the seeds together.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.interaction import Interaction

from recgen.config.loader import load_config
from recgen.core.io import write_features, write_json
from recgen.core.seeding import numpy_rng, seed_for
from recgen.metrics.statistics import bootstrap_mean, paired_difference
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext, of_judge
from recgen.recommender import recbole
from recgen.recommender.baselines import baselines
from recgen.recommender.training import train

MODELS = ("MICRO", "VBPR")
CLIP, PHOTOS, NONE, MIXED = "demo-clip", "photos", "no features", "photos, texts of demo-clip"
DEALT = {CLIP: "demo-clip, dealt out", PHOTOS: "photos, dealt out"}
PAIRS = (
    (PHOTOS, CLIP),
    (PHOTOS, DEALT[PHOTOS]),
    (PHOTOS, NONE),
    (CLIP, DEALT[CLIP]),
    (CLIP, NONE),
    (MIXED, CLIP),
)
EYES = (  # whose features the run makes beside its own encoder's
    "recgen.ranker.judge_encoder=efficientnet-lite0",
    "recgen.ranker.text_encoder=wordllama",
    "recgen.threads=1",
    "use_gpu=false",
)
CUTOFF = 10
RECALL, AUC = f"recall@{CUTOFF}", "auc"


def sources(run: RunContext) -> dict[str, dict[str, str]]:
    """Write the features of every source; return RecBole's `item_features` for each, without texts where items have none."""
    ids, clip = run.features("image")
    _, seen = run.features(of_judge("image", 0))
    order = numpy_rng(0, "photos dealt out").permutation(len(ids))
    values = {
        CLIP: {"image": clip},
        DEALT[CLIP]: {"image": clip[order]},
        PHOTOS: {"image": seen},
        DEALT[PHOTOS]: {"image": seen[order]},
        NONE: {"image": alike(seen)},
    }
    if len(run.features("text")[0]):
        by_clip, told = (of_items(run, kind, ids) for kind in ("text", "ranker_text"))
        texts = (by_clip, by_clip[order], told, told[order], alike(told))
        for kinds, text in zip(values.values(), texts, strict=True):
            kinds["text"] = text
        values[MIXED] = {"image": seen, "text": by_clip}
    found: dict[str, dict[str, str]] = {}
    for number, (name, kinds) in enumerate(values.items()):
        folder = (run.folder / f"sources/{number}").resolve()
        for kind, features in kinds.items():
            write_features(folder / f"{kind}.safetensors", features, ids)
        found[name] = {kind: str(folder / f"{kind}.safetensors") for kind in kinds}
    return found


def of_items(run: RunContext, kind: str, ids: Sequence[str]) -> np.ndarray:
    """Return the features of a kind in the order of `ids`, all of which have some, ``[n, D]``."""
    tokens, features = run.features(kind)
    rows = {token: row for row, token in enumerate(tokens)}
    return np.asarray(features)[[rows[token] for token in ids]]


def alike(features: np.ndarray) -> np.ndarray:
    """Return their mean for every item, ``[n, D]``."""
    return np.repeat(features.mean(axis=0, keepdims=True), len(features), axis=0)


def ranked(run: RunContext, model: str, features: dict[str, str], seed: int) -> pd.DataFrame:
    """Train a model; return Recall@10 and AUC of each test user (RecBole's id). Kept by the features, and not trained twice."""
    path = Path(features["image"]).with_name(f"{model}.{seed}.parquet")
    if path.exists():
        return pd.read_parquet(path)
    extra = {"seed": seed_for(seed, "photos", model) % 2**31, "item_features": features}
    config = run.recbole_config(model, extra)
    run.prepare_torch()
    trained = train(config, recbole.loaders(config, run.split)).model.eval()
    split, whole = run.split, run.split.whole
    users, items = (split.test.inter_feat[field] for field in (whole.uid_field, whole.iid_field))
    with torch.no_grad():
        scores = trained.full_sort_predict(Interaction({whole.uid_field: users})).reshape(len(users), -1)
    found = {"user": users.numpy(), **places(scores, items, _known(split, users)), "seed": seed}
    table = pd.DataFrame(found)
    table.to_parquet(path)
    return table


def _known(split: recbole.DatasetSplits, users: torch.Tensor) -> torch.Tensor:
    """Return which items each user is known to like before the test, bool ``[U, n_items]``; the padding item is one."""
    whole = split.whole
    liked = torch.zeros(whole.user_num, whole.item_num, dtype=torch.bool)
    liked[:, 0] = True
    for part in (split.train, split.valid):
        liked[part.inter_feat[whole.uid_field], part.inter_feat[whole.iid_field]] = True
    return liked[users]


def places(scores: torch.Tensor, items: torch.Tensor, known: torch.Tensor) -> dict[str, np.ndarray]:
    """Return Recall@10 and AUC of one wanted item each, float64 ``[U]``, among the items that are not known.

    Parameters
    ----------
    scores, known
        Float and bool ``[U, n_items]``.
    items
        The wanted ones ``[U]``; an item of the same score counts as half below.
    """
    target = scores.gather(1, items[:, None])
    others = ~known
    others.scatter_(1, items[:, None], False)
    above, equal = (((relation & others).sum(1)).double() for relation in (scores > target, scores == target))
    below = 1 - (above + equal / 2) / others.sum(1)
    return {RECALL: (above < CUTOFF).double().numpy(), AUC: below.numpy()}


def measured(
    run: RunContext, model: str, features: dict[str, dict[str, str]], seeds: list[int]
) -> dict[str, Any]:
    """Return of one model by metric each source's mean and the paired differences."""
    tables = {
        name: pd.concat([ranked(run, model, paths, seed) for seed in seeds])
        for name, paths in features.items()
        if name != MIXED or model != "VBPR"  # which reads no texts
    }
    return {metric: _compared(tables, model, metric) for metric in (RECALL, AUC)}


def _compared(tables: dict[str, pd.DataFrame], model: str, metric: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: {
            **bootstrap_mean(table[metric], table["user"], seed_for(0, f"{model} {metric}", name)).as_json(),
            "by seed": table.groupby("seed")[metric].mean().tolist(),
        }
        for name, table in tables.items()
    }
    found["differences"] = [
        paired_difference(
            tables[a][metric], tables[b][metric], tables[a]["user"], seed_for(0, f"{model} {metric}", a, b)
        ).as_json(a, b, metric)
        for a, b in PAIRS
        if a in tables
    ]
    return found


def main() -> None:
    """Measure one configuration."""
    parser = argparse.ArgumentParser(description="how rankers rank on features of photographs")
    parser.add_argument("config")
    parser.add_argument("result", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--work", type=Path, default=Path("runs/experiments/photos"))
    given = parser.parse_args()
    run = RunContext(load_config(given.config, EYES), given.work / given.result.stem)
    pipeline.execute(run, until="features")
    features = sources(run)
    facts = {
        "items": len(run.items),
        "users": run.interactions["user_id"].nunique(),
        "likes to learn from": len(run.split.train.inter_feat),
        "seeds": given.seeds,
    }
    found = {model: measured(run, model, features, given.seeds) for model in MODELS}
    write_json(given.result, {**facts, **baselines(run.split, CUTOFF), **found})


if __name__ == "__main__":
    main()
