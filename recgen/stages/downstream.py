"""The downstream stage: would the recommender rank better with these images? (section 6, Recall@10 and NDCG@10.)

How an image made for one user enters a model with one image per item, the papers leave open. Two answers are given:

- *mean*: an item's image feature becomes a mix of its own and the mean of its creatives' embeddings, and the model is
  trained anew on all training interactions; measured over all users. ORI is the same training with the images as they are.
- *per_user*: nothing is trained; the model trained on ORI ranks, for each request, the reference with that user's creative in
  place of its image; measured over the requests. Only the reference changes, so this is the most a creative could do.

Two controls ask first whether this model gains anything from images on these data: SHUFFLED gives every item the image of
another one, NONE gives all items the same. What neither of them loses, no creative can win. Chance and popularity say what a
ranking without a model reaches.

Each training has its own seed, shared by all sources, so that differences are paired.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ranking_models.what_if.substitute import SubstituteWhatIf
from recgen.core.io import write_features, write_json
from recgen.core.seeding import numpy_rng, seed_for
from recgen.metrics.statistics import paired_seeds, seed_mean
from recgen.pipeline.context import RunContext
from recgen.recommender import checkpoint, feedback, recbole
from recgen.recommender.baselines import baselines
from recgen.recommender.reward import Ranker
from recgen.recommender.training import build, train, trainer_for
from recgen.stages.generate import creatives
from recgen.stages.ranker import feedback_config, feedback_splits, is_pointwise, item_features

ORIGINAL, SHUFFLED, NONE = "ORI", "SHUFFLED", "NONE"
CONTROLS = (SHUFFLED, NONE)
CUTOFF = 10
METRICS = (f"recall@{CUTOFF}", f"ndcg@{CUTOFF}")


def sources(run: RunContext) -> list[str]:
    """Return the sources of images that are compared: the originals, the controls, then every generator."""
    return [ORIGINAL, *(CONTROLS if run.settings.downstream.controls else ()), *run.settings.generators]


def model_name(run: RunContext) -> str:
    """Return the name of the model that is retrained: `recgen.downstream.model`, or the judge's."""
    return run.settings.downstream.model or run.settings.ranker.judge


def model_reads_images(run: RunContext) -> bool:
    """Return whether other images can change what the retrained model says."""
    return recbole.reads_images(recbole.model_class(model_name(run), run.config.source))


def retrain(run: RunContext, source: str, seed: int) -> list[Path]:
    """Train the model with one source's images and one seed; write its test results to downstream/<source>/<seed>.

    A model that reads no images is not trained again for another source: training and ranks are those of ORI.
    """
    folder = run.folder / f"downstream/{source}/{seed}"
    reads_images = model_reads_images(run)
    if source != ORIGINAL and not reads_images:
        results = _read_results(run, ORIGINAL, seed)
    else:
        image = (
            None if source == ORIGINAL else changed_features(run, source, seed, folder / "image.safetensors")
        )
        run.prepare_torch()
        results = _train_and_test(run, source, seed, _training(run, seed, image), reads_images)
    write_json(folder / "results.json", results)
    return [folder / "results.json"]


def _train_and_test(
    run: RunContext, source: str, seed: int, training: Training, reads_images: bool
) -> dict[str, float]:
    trained = train(training.config, training.data)
    tested = training.measure(trained.model)
    results = {name: float(tested[name]) for name in METRICS}
    if source in CONTROLS:
        return results
    if source == ORIGINAL:
        if reads_images:
            checkpoint.save(trained.model, training.whole, run.folder / f"downstream/{source}/{seed}")
        return results | _per_user(_ranks_of_originals(run, training, trained.model))
    ranker = Ranker(_original(run, seed), training.data.train.dataset, run.settings.ranker.what_if)
    return results | _per_user(ranker.rank(*_references(run), creatives(run, source)[1]).cpu().numpy())


@dataclass(frozen=True)
class Training:
    """One training of the downstream model.

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
    name = model_name(run)
    keys = run.recbole_keys(name)
    extra = {
        **run.settings.downstream.settings,
        "seed": seed_for(run.settings.seed, "downstream", str(seed)) % 2**31,
        "item_features": item_features(run, image),
    }
    ranking = run.recbole_config(
        name,
        {
            **extra,
            "metrics": [*dict.fromkeys([*keys["metrics"], "Recall", "NDCG"])],
            "topk": sorted({*np.atleast_1d(keys["topk"]).tolist(), CUTOFF}),
            "metric_decimal_place": 12,
        },
    )
    if is_pointwise(run, name):
        config, parts = feedback_config(run, name, extra), feedback_splits(run, name)
        data, test = recbole.loaders(config, parts), feedback.ranking_test(ranking, run.split, parts)
        return Training(config, data, parts.whole, ranking, test)
    data = recbole.loaders(ranking, run.split)
    return Training(ranking, data, run.split.whole, ranking, data.test)


def changed_features(run: RunContext, source: str, seed: int, path: Path) -> Path:
    """Write the catalogue's image features as a control or a generator's creatives change them, and return their path."""
    if source in CONTROLS:
        tokens, features = run.features("image")
        features = control_features(source, features, run.settings.seed, seed)
    else:
        tokens, features = mixed(run, source)
    write_features(path, features, tokens)
    return path


def control_features(control: str, features: np.ndarray, run_seed: int, seed: int) -> np.ndarray:
    """Return image features float32 ``[n, D]`` that say nothing about their items.

    Parameters
    ----------
    control
        `SHUFFLED` gives the rows to other items, in an order that each training seed draws anew; `NONE` gives all items the
        mean of the catalogue, which is what ranking models give an item that has no image.
    features
        The items' own features, float32 ``[n, D]``.
    run_seed, seed
        The run's seed, and the training's.
    """
    if control == NONE:
        return np.repeat(features.mean(axis=0, keepdims=True), len(features), axis=0)
    return features[numpy_rng(run_seed, "shuffled images", str(seed)).permutation(len(features))]


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


def _ranks_of_originals(run: RunContext, training: Training, model: Any) -> np.ndarray:
    """Return the 0-based ranks int64 ``[n]`` of the requests' references as the model trained on ORI ranks them."""
    known = training.data.train.dataset
    what_if = SubstituteWhatIf(model, known)
    users, items = (
        torch.as_tensor(np.asarray(known.token2id(field, np.array(tokens, dtype=object))))
        for field, tokens in zip((known.uid_field, known.iid_field), _references(run), strict=True)
    )
    return what_if.rank_original(users.long(), items.long()).cpu().numpy()


def _references(run: RunContext) -> tuple[list[str], list[str]]:
    """Return the users and the items of the requests, as tokens."""
    return [request.user_id for request in run.requests], [request.item_id for request in run.requests]


def _per_user(places: np.ndarray) -> dict[str, float]:
    """Return Recall and NDCG over the requests, of the 0-based ranks int64 ``[n]`` of their references.

    With a single relevant item at rank r, Recall@k is [r < k] and NDCG@k is [r < k] / log2(r + 2).
    """
    found = places < CUTOFF
    gain = np.where(found, 1 / np.log2(places + 2.0), 0.0)
    return {
        f"{name} per_user": float(values.mean()) for name, values in zip(METRICS, (found, gain), strict=True)
    }


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
        if a == ORIGINAL or not {a, b} & set(CONTROLS)
        for key in results[b]
    ]
    summary = {"sources": means, "tests": tests, "baselines": baselines(run.split, CUTOFF)}
    path = run.folder / "downstream/summary.json"
    write_json(path, summary)
    return [path, write_metrics(run, summary)]


def _results(run: RunContext, source: str) -> dict[str, list[float]]:
    """Return each metric's values over the seeds."""
    rows = [_read_results(run, source, seed) for seed in range(run.settings.downstream.seeds)]
    return {key: [row[key] for row in rows] for key in rows[0]}


def _read_results(run: RunContext, source: str, seed: int) -> dict[str, float]:
    path = run.folder / f"downstream/{source}/{seed}/results.json"
    return json.loads(path.read_text(encoding="utf-8"))
