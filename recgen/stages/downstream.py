"""The downstream stage: would the recommender rank better with these images? (section 6, Recall@10 and NDCG@10.)

How an image made for one user enters a model with one image per item, the papers leave open. Two answers are given:

- *mean*: an item's image feature becomes a mix of its own and the mean of its creatives' embeddings, and the judge's model is
  trained anew on all training interactions; measured over all users. ORI is the same training with the images as they are.
- *per_user*: nothing is trained; the model trained on ORI ranks, for each request, the reference with that user's creative in
  place of its image; measured over the requests. Only the reference changes, so this is the most a creative could do.

Each training has its own seed, shared by all sources, so that differences are paired.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from recgen.core.io import write_features, write_json
from recgen.core.seeding import seed_for
from recgen.metrics.statistics import paired_seeds, seed_mean
from recgen.pipeline.context import RunContext
from recgen.recommender import checkpoint, feedback, recbole
from recgen.recommender.training import build, train, trainer_for
from recgen.stages.generate import creatives
from recgen.stages.ranker import feedback_config, feedback_splits, is_pointwise, item_features

ORIGINAL = "ORI"
CUTOFF = 10


def sources(run: RunContext) -> list[str]:
    """Return the sources of images that are compared: the originals, then every generator."""
    return [ORIGINAL, *run.settings.generators]


def retrain(run: RunContext, source: str, seed: int) -> list[Path]:
    """Train the judge's model with one source's images and one seed; write its test results."""
    folder = run.folder / f"downstream/{source}/{seed}"
    image = None if source == ORIGINAL else mixed_features(run, source, folder / "image.safetensors")
    training = _training(run, seed, image)
    run.prepare_torch()
    trained = train(training.config, training.data)
    tested = training.measure(trained.model)
    results = {name: float(tested[name]) for name in (f"recall@{CUTOFF}", f"ndcg@{CUTOFF}")}
    if source == ORIGINAL:
        checkpoint.save(trained.model, training.whole, folder)
        results |= _per_user(run, training.whole, _what_if(run, trained.model), None)
    else:
        results |= _per_user(run, training.whole, _what_if(run, _original(run, seed)), source)
    write_json(folder / "results.json", results)
    return [folder / "results.json"]


@dataclass(frozen=True)
class Training:
    """One training of the judge's model.

    Attributes
    ----------
    config, data, whole
        RecBole's Config, its loaders, and the dataset whose ids they have.
    ranking, test
        RecBole's Config and loader of the test, which ranks every item, whatever the model learns from.
    """

    config: Any
    data: recbole.Loaders
    whole: Any
    ranking: Any
    test: Any

    def measure(self, model: Any) -> dict[str, float]:
        """Return the model's test results."""
        trainer = trainer_for(self.ranking, model)
        trainer.eval_collector.data_collect(self.data.train)
        return trainer.evaluate(self.test, load_best_model=False, show_progress=False)


def _training(run: RunContext, seed: int, image: Path | None) -> Training:
    """Prepare one training, with exact results of the two metrics whatever else is measured.

    A model of likes and dislikes learns from those of before the references and ranks all items by how likely a like is.
    """
    judge = run.settings.ranker.judge
    keys = run.recbole_keys(judge)
    extra = {
        **run.settings.downstream.settings,
        "seed": seed_for(run.settings.seed, "downstream", str(seed)) % 2**31,
        "item_features": item_features(run, image),
    }
    ranking = run.recbole_config(
        judge,
        {
            **extra,
            "metrics": [*dict.fromkeys([*keys["metrics"], "Recall", "NDCG"])],
            "topk": sorted({*np.atleast_1d(keys["topk"]).tolist(), CUTOFF}),
            "metric_decimal_place": 12,
        },
    )
    if is_pointwise(run, judge):
        config, parts = feedback_config(run, judge, extra), feedback_splits(run, judge)
        data, test = recbole.loaders(config, parts), feedback.ranking_test(ranking, run.split, parts)
        return Training(config, data, parts.whole, ranking, test)
    data = recbole.loaders(ranking, run.split)
    return Training(ranking, data, run.split.whole, ranking, data.test)


def mixed_features(run: RunContext, source: str, path: Path) -> Path:
    """Write the catalogue's image features with one source's creatives mixed in, as `mixed` has them, and return their path."""
    tokens, features = mixed(run, source)
    write_features(path, features, tokens)
    return path


def mixed(run: RunContext, source: str) -> tuple[list[str], np.ndarray]:
    """Return item tokens and the catalogue's raw image features, float32 ``[n, D]``, with one source's creatives mixed in.

    An item's feature becomes (1 - w) x its own + w x the mean over its creatives, w = `mix_weight`; an item without an image
    of its own takes the mean alone, one without a creative stays as it is. With ORI all stay as they are.
    """
    if source == ORIGINAL:
        return run.features("image")
    rows, made = creatives(run, source)
    features, weight = run.data.image_features.copy(), run.settings.downstream.mix_weight
    for item, mine in rows.groupby("item_id", sort=False).indices.items():
        row, mean = run.data.item_rows[str(item)], made[mine].mean(axis=0)
        own = features[row]
        features[row] = (1 - weight) * own + weight * mean if np.isfinite(own).all() else mean
    known = np.isfinite(features).all(axis=1)
    tokens = [token for token, has in zip(run.data.item_ids, known, strict=True) if has]
    return tokens, features[known]


def _original(run: RunContext, seed: int) -> Any:
    """Return the model that was trained on the original images with this seed."""
    training = _training(run, seed, None)
    model = build(training.config, training.data)
    return checkpoint.load(model, training.whole, run.folder / f"downstream/{ORIGINAL}/{seed}")


def _what_if(run: RunContext, model: Any) -> Any:
    return model.what_if(run.settings.ranker.what_if)


def _per_user(run: RunContext, whole: Any, what_if: Any, source: str | None) -> dict[str, float]:
    """Rank each request's reference, with its creative if there is a source, and return Recall and NDCG over the requests.

    With a single relevant item at 0-based rank r, Recall@k is [r < k] and NDCG@k is [r < k] / log2(r + 2).
    """
    import torch

    users, items = (
        torch.as_tensor(np.asarray(whole.token2id(field, np.array(tokens, dtype=object))), dtype=torch.long)
        for field, tokens in (
            (whole.uid_field, [request.user_id for request in run.requests]),
            (whole.iid_field, [request.item_id for request in run.requests]),
        )
    )
    if source is None:
        ranks = what_if.rank_original(users, items)
    else:
        ranks = what_if.rank(users, items, torch.from_numpy(creatives(run, source)[1]))
    places = ranks.cpu().numpy()
    found = places < CUTOFF
    gain = np.where(found, 1 / np.log2(places + 2.0), 0.0)
    return {f"recall@{CUTOFF} per_user": float(found.mean()), f"ndcg@{CUTOFF} per_user": float(gain.mean())}


def summarise(run: RunContext) -> list[Path]:
    """Write downstream/summary.json (means over seeds, paired tests between sources) and metrics.json with it."""
    from recgen.stages.evaluate import write_metrics

    results = {source: _results(run, source) for source in sources(run)}
    means = {
        source: {key: seed_mean(values).as_json() for key, values in found.items()}
        for source, found in results.items()
    }
    tests = [
        paired_seeds(results[b][key], results[a][key]).as_json(b, a, key)
        for a, b in combinations(results, 2)
        for key in results[a]
    ]
    summary = {"sources": means, "tests": tests}
    path = run.folder / "downstream/summary.json"
    write_json(path, summary)
    return [path, write_metrics(run, summary)]


def _results(run: RunContext, source: str) -> dict[str, list[float]]:
    """Return each metric's values over the seeds."""
    files = [
        run.folder / f"downstream/{source}/{seed}/results.json"
        for seed in range(run.settings.downstream.seeds)
    ]
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    return {key: [row[key] for row in rows] for key in rows[0]}
