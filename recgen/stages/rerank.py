"""The downstream stage's lists: what the model trained on the original images ranks when every item of a list shows a creative.

Nothing is trained. An item's score with a creative is the model's own what-if score, as for Delta R, and a user's held-out like
is looked for among the items of the list alone, all of which show an image of the same kind.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen.core.io import write_parquet
from recgen.core.seeding import numpy_rng
from recgen.data import slates
from recgen.metrics.comparison import ORIGINAL, SWAPPED
from recgen.pipeline.context import RunContext
from recgen.pipeline.downstream import NONE, RANDOM
from recgen.recommender.baselines import expected_metrics
from recgen.recommender.reward import Ranker
from recgen.stages.downstream import CUTOFF, METRICS, drawing, model_scores_by_images, trained_model
from recgen.stages.draws import SLATE, candidates, created

CONSTANT = "CONSTANT"
"""All items of a list show one image, drawn from the catalogue: what the model ranks by when no image tells two items apart."""


def choose(run: RunContext, turn: int) -> list[Path]:
    """Write downstream/slates/<turn>.parquet: the lists of a draw, with negatives that a model without images ranks high.

    There are none for a model that reads no images, or reads them in training alone.
    """
    settings = run.settings.downstream.rerank
    path = run.folder / f"downstream/slates/{turn}.parquet"
    if settings is None or not model_scores_by_images(run):
        write_parquet(path, pd.DataFrame(columns=slates.CANDIDATES))
        return [path]
    ranker, items = trained_model(run, NONE, turn), run.items["item_id"].tolist()
    found = slates.slates(
        run.interactions,
        items,
        lambda users: ranker.score_all(users, items).cpu().numpy(),
        run.settings.seed,
        turn,
        settings.users,
        settings.negatives,
    )
    write_parquet(path, found)
    return [path]


def rank(run: RunContext, turn: int) -> list[Path]:
    """Write downstream/reranked/<turn>.parquet: each user's Recall and NDCG in the user's list, by what the items show."""
    rows, found = candidates(run, turn), []
    if len(rows):
        ranker = trained_model(run, ORIGINAL, turn)
        found.append(_measured(ORIGINAL, rows, _original(ranker, rows)))
        for source, embeddings in _images(run, turn, rows):
            found.append(_measured(source, rows, _scores(ranker, rows, embeddings)))
    found = found or [pd.DataFrame(columns=["source", "user_id", *METRICS])]
    path = run.folder / f"downstream/reranked/{turn}.parquet"
    write_parquet(path, pd.concat(found, ignore_index=True).assign(draw=turn))
    return [path]


def _images(run: RunContext, turn: int, rows: pd.DataFrame) -> Iterable[tuple[str, np.ndarray]]:
    """Yield every source and the embeddings float32 ``[n, D]`` of what the rows' items show."""
    features = run.data.image_features
    known = np.flatnonzero(np.isfinite(features).all(axis=1))
    rng = numpy_rng(run.settings.seed, "slate random item", str(turn))
    yield RANDOM, features[rng.choice(known, size=len(rows))]
    lists = rows["slate"].to_numpy()
    shown = rng.choice(known, size=int(lists.max()) + 1)
    yield CONSTANT, features[shown[lists]]
    for name in drawing(run):
        made, embeddings = created(run, name, turn)
        places = {
            (user, item): place
            for place, (kind, user, item) in enumerate(
                zip(made["kind"], made["user_id"], made["item_id"], strict=True)
            )
            if kind == SLATE
        }
        for source, whose in ((name, "user_id"), (f"{SWAPPED}{name}", "partner")):
            pairs = zip(rows[whose], rows["item_id"], strict=True)
            yield source, embeddings[[places[pair] for pair in pairs]]


def _original(ranker: Ranker, rows: pd.DataFrame) -> np.ndarray:
    return ranker.score_original(rows["user_id"].tolist(), rows["item_id"].tolist()).cpu().numpy()


def _scores(ranker: Ranker, rows: pd.DataFrame, embeddings: np.ndarray) -> np.ndarray:
    return ranker.score(rows["user_id"].tolist(), rows["item_id"].tolist(), embeddings).cpu().numpy()


def _measured(source: str, rows: pd.DataFrame, scores: np.ndarray) -> pd.DataFrame:
    """Return columns source, user_id and the metrics, a row per user; equal scores count with their expectation."""
    relevant = rows["relevant"].to_numpy()
    found: list[dict[str, Any]] = []
    for user, places in rows.groupby("user_id", sort=False).indices.items():
        values = expected_metrics(scores[places], relevant[places], CUTOFF)
        found.append({"source": source, "user_id": user, **dict(zip(METRICS, values, strict=True))})
    return pd.DataFrame(found, columns=["source", "user_id", *METRICS])
