"""The downstream stage: would the recommender rank better with these images? (section 6, Recall@10 and NDCG@10.)

How an image made for one user enters a model with one image per item, the papers leave open. Two answers are given.

*Retrained* (this module): items are drawn blind to the test part. A drawn item's image feature becomes a mix of its own and the
mean of creatives made for users who like it in the training part; the model is trained anew and measured over all users. Beside
it stand the same trainings with creatives of the same items made for users who have not met them (`swapped.`), with the
creatives of other drawn items (`dealt.`), with images of random items (RANDOM), and with all images as they are (ORI). What
touching items does to a ranking, and what any image does, all of them have.

*Reranked* (`recgen.stages.rerank`): nothing is trained; lists that hold users' held-out likes are ranked again when every item of
the list shows a creative.

Two controls ask first whether this model gains anything from images on these data: SHUFFLED gives every item the image of
another one, NONE gives all items the same. What neither of them loses, no creative can win. Chance and popularity say what a
ranking without a model reaches.

Every draw has its own items, users and seed of training, which all sources share: differences are paired, and the draw is the
unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen.core.io import write_features, write_json, write_parquet
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.draws import OWN
from recgen.data.draws import SWAPPED as SWAPPED_KIND
from recgen.metrics import comparison
from recgen.metrics.comparison import DEALT, ORIGINAL, SWAPPED
from recgen.pipeline import downstream as plan
from recgen.pipeline.context import RunContext
from recgen.pipeline.downstream import CONTROLS, NONE, RANDOM
from recgen.recommender import checkpoint, feedback, mixing, recbole
from recgen.recommender.baselines import baselines
from recgen.recommender.per_user import evaluate_per_user, ranked_exactly
from recgen.recommender.reward import Ranker
from recgen.recommender.training import build, train, trainer_for
from recgen.stages import draws
from recgen.stages.generate import creatives
from recgen.stages.ranker import feedback_config, feedback_splits, is_pointwise, item_features

CUTOFF = 10
METRICS = (f"recall@{CUTOFF}", f"ndcg@{CUTOFF}")
RERANKED = " reranked"
"""After a metric's name: of lists that were ranked again."""


def sources(run: RunContext) -> list[str]:
    """Return the sources of images that the model is trained on; see `recgen.pipeline.downstream`."""
    return plan.sources(run.settings, run.config.generators)


def drawing(run: RunContext) -> list[str]:
    """Return the generators that can be asked for more creatives."""
    return plan.drawing(run.settings, run.config.generators)


def model_name(run: RunContext) -> str:
    """Return the name of the model that is retrained: `recgen.downstream.model`, or the judge's."""
    return run.settings.downstream.model or run.settings.ranker.judge


def model_reads_images(run: RunContext) -> bool:
    """Return whether other images can change what the retrained model says."""
    return recbole.reads_images(recbole.model_class(model_name(run), run.config.source))


def model_scores_by_images(run: RunContext) -> bool:
    """Return whether other images change what the model says without training it anew, as ranking lists again asks."""
    return recbole.scores_by_images(recbole.model_class(model_name(run), run.config.source))


def retrain(run: RunContext, source: str, turn: int) -> list[Path]:
    """Train the model with one source's images for one draw; write each user's results to downstream/<source>/<turn>.

    A model that reads no images is not trained again for another source: its results are those of ORI.
    """
    folder = run.folder / f"downstream/{source}/{turn}"
    if source != ORIGINAL and not model_reads_images(run):
        table = per_user(run, ORIGINAL, turn)
    else:
        image = None if source == ORIGINAL else changed_features(run, source, turn, _image(run, source, turn))
        run.prepare_torch()
        training = prepared(run, turn, image)
        trained = train(training.config, training.data)
        table = training.measure(trained.model)
        if source in (ORIGINAL, NONE):
            checkpoint.save(trained.model, training.whole, folder)
    write_parquet(folder / "users.parquet", table)
    write_json(folder / "results.json", {name: float(table[name].mean()) for name in METRICS})
    return [folder]


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

    def measure(self, model: Any) -> pd.DataFrame:
        """Return each test user's token (user_id), Recall@10 and NDCG@10."""
        trainer = trainer_for(self.ranking, model)
        trainer.eval_collector.data_collect(self.data.train)
        found = evaluate_per_user(trainer, self.test, CUTOFF)
        users = self.whole.id2token(self.whole.uid_field, found.pop("user"))
        return pd.DataFrame({"user_id": users, **found})


def prepared(run: RunContext, turn: int, image: Path | None) -> Training:
    """Prepare one training, with exact results of the two metrics whatever else is measured.

    A model of likes and dislikes learns from those of before the references and ranks all items by how likely a like is.
    """
    name = model_name(run)
    extra = {
        **run.settings.downstream.settings,
        "seed": seed_for(run.settings.seed, "downstream", str(turn)) % 2**31,
        "item_features": item_features(run, image),
    }
    ranking = run.recbole_config(name, {**extra, **ranked_exactly(run.recbole_keys(name), CUTOFF)})
    if is_pointwise(run, name):
        config, parts = feedback_config(run, name, extra), feedback_splits(run, name)
        data, test = recbole.loaders(config, parts), feedback.ranking_test(ranking, run.split, parts)
        return Training(config, data, parts.whole, ranking, test)
    data = recbole.loaders(ranking, run.split)
    return Training(ranking, data, run.split.whole, ranking, data.test)


def changed_features(run: RunContext, source: str, turn: int, path: Path) -> Path:
    """Write the catalogue's image features as a source other than ORI changes them, and return their path."""
    if source in CONTROLS:
        tokens, features = run.features("image")
        features = control_features(source, features, run.settings.seed, turn)
    else:
        features = mixing.mix(
            run.data.image_features, _means(run, source, turn), run.settings.downstream.mix_weight
        )
        tokens, features = _known(run, features)
    write_features(path, features, tokens)
    return path


def _means(run: RunContext, source: str, turn: int) -> dict[int, np.ndarray]:
    """Return by row of the catalogue the mean embedding of what a source shows for the items of a draw."""
    rows, seed = run.data.item_rows, run.settings.seed
    if source == RANDOM:
        drawn = draws.chosen(run, turn)
        counts = drawn[drawn["kind"] == OWN].groupby("item_id", sort=False).size()
        pairs = ((rows[str(item)], int(count)) for item, count in counts.items())
        return mixing.random_items(run.data.image_features, pairs, seed, turn)
    made, embeddings = draws.created(run, plan.generator_of(source), turn)
    mine = made["kind"].to_numpy() == (SWAPPED_KIND if source.startswith(SWAPPED) else OWN)
    means = mixing.item_means([rows[item] for item in made.loc[mine, "item_id"]], embeddings[mine])
    return mixing.dealt(means, seed, turn) if source.startswith(DEALT) else means


def control_features(control: str, features: np.ndarray, run_seed: int, turn: int) -> np.ndarray:
    """Return image features float32 ``[n, D]`` that say nothing about their items.

    Parameters
    ----------
    control
        `SHUFFLED` gives the rows to other items, in an order of each draw's own; `NONE` gives all items the
        mean of the catalogue, which is what ranking models give an item that has no image.
    features
        The items' own features, float32 ``[n, D]``.
    run_seed, turn
        The run's seed, and the draw's number.
    """
    if control == NONE:
        return np.repeat(features.mean(axis=0, keepdims=True), len(features), axis=0)
    return features[numpy_rng(run_seed, "shuffled images", str(turn)).permutation(len(features))]


def mixed(run: RunContext, source: str, shown: np.ndarray | None = None) -> tuple[list[str], np.ndarray]:
    """Return item tokens and the catalogue's raw image features, float32 ``[n, D]``, with the run's creatives mixed in.

    Parameters
    ----------
    run
        The run.
    source
        A generator, or ORI.
    shown
        bool ``[n]``, which of the generator's creatives take part; None: all.

    Notes
    -----

    An item's feature becomes (1 - w) x its own + w x the mean over its creatives, w = `mix_weight`; an item without an image
    of its own takes the mean alone, one without a creative stays as it is. With ORI all stay as they are. The downstream
    stage asks for creatives of its own, of which the same is made.
    """
    if source == ORIGINAL:
        return run.features("image")
    rows, made = creatives(run, source)
    if shown is not None:
        rows, made = rows[shown], made[shown]
    means = mixing.item_means([run.data.item_rows[item] for item in rows["item_id"]], made)
    return _known(run, mixing.mix(run.data.image_features, means, run.settings.downstream.mix_weight))


def _known(run: RunContext, features: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Return the tokens and the rows of the items that have features."""
    known = np.isfinite(features).all(axis=1)
    return [token for token, has in zip(run.data.item_ids, known, strict=True) if has], features[known]


def _image(run: RunContext, source: str, turn: int) -> Path:
    return run.folder / f"downstream/{source}/{turn}/image.safetensors"


def trained_model(run: RunContext, source: str, turn: int) -> Ranker:
    """Return the model that was trained on the original images (ORI) or on none (NONE) for a draw."""
    training = prepared(run, turn, None if source == ORIGINAL else _image(run, source, turn))
    model = build(training.config, training.data.train.dataset)
    loaded = checkpoint.load(model, training.whole, run.folder / f"downstream/{source}/{turn}")
    return Ranker(loaded, training.data.train.dataset, run.settings.ranker.what_if)


def per_user(run: RunContext, source: str, turn: int) -> pd.DataFrame:
    """Return each user's results with one source's images in one draw: columns user_id, recall@10 and ndcg@10."""
    return pd.read_parquet(run.folder / f"downstream/{source}/{turn}/users.parquet")


def summarise(run: RunContext) -> list[Path]:
    """Write downstream/summary.json (means, and differences between sources over draws and users) and metrics.json with it."""
    from recgen.stages.evaluate import write_metrics

    turns = range(run.settings.downstream.seeds)
    retrained = pd.concat(
        [
            per_user(run, source, turn).assign(source=source, draw=turn)
            for source in sources(run)
            for turn in turns
        ]
    )
    found = comparison.compare(retrained, METRICS, drawing(run))
    summary: dict[str, Any] = {
        "sources": found.means,
        "tests": found.tests,
        "baselines": baselines(run.split, CUTOFF),
    }
    if plan.reranks(run.settings):
        paths = [run.folder / f"downstream/reranked/{turn}.parquet" for turn in turns]
        table = pd.concat([pd.read_parquet(path) for path in paths])
        if len(table):
            lists = comparison.compare(table, METRICS, drawing(run), RERANKED)
            for source, means in lists.means.items():
                summary["sources"].setdefault(source, {}).update(means)
            summary["tests"] = [*found.tests, *lists.tests]
    path = run.folder / "downstream/summary.json"
    write_json(path, summary)
    return [path, write_metrics(run, summary)]
