"""What a trained ranking model knows of what users like, on interactions that it was not trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recgen.metrics.auc import auc
from recgen.recommender.feedback import LABEL
from recgen.recommender.per_user import evaluate_per_user
from recgen.recommender.recbole import DatasetSplits, Loaders, loaders, of_some_users
from recgen.recommender.training import finite, trainer_for

CUTOFF = 10
TEST_USERS = 2_000
"""Test users whose lists are ranked; Recall@10 is then known to 1.1 points at most, and a million items take minutes."""


def of_labels(trainer: Any, data: Loaders) -> dict[str, float]:
    """Return what a model of likes and dislikes makes of those held out.

    Parameters
    ----------
    trainer
        RecBole's trainer, with the trained model.
    data
        The loaders that it was trained with.

    Returns
    -------
    dict
        What RecBole measures (auc, logloss); ``likes`` and ``dislikes``, how many of each are held out; ``popularity_auc``,
        the AUC of a score that knows no user: how much of what the model learned from likes the item. Without what is no number.
    """
    found = trainer.evaluate(data.test, load_best_model=False, show_progress=False)
    learned, held_out = (_rows(loader.dataset) for loader in (data.train, data.test))
    rates = like_rates(*learned, data.train.dataset.item_num)
    items, likes = held_out
    counts = {"likes": int(likes.sum()), "dislikes": int((~likes).sum())}
    return {**finite(found), **finite({"popularity_auc": auc(rates[items], likes)}), **counts}


def _rows(dataset: Any) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the item, int64 ``[n]``, and whether it is liked, bool ``[n]``, of every interaction."""
    rows = dataset.inter_feat
    return rows[dataset.iid_field].numpy(), rows[LABEL].numpy() > 0.5


def like_rates(items: NDArray[np.int64], likes: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    """Return float64 ``[count]``: the share of an item's interactions that are likes, beside one of the mean share.

    That one keeps an item which a single user liked from being the most popular.

    >>> like_rates(np.array([1, 1, 1, 2]), np.array([True, True, False, True]), 4).round(4).tolist()
    [0.75, 0.6875, 0.875, 0.75]
    """
    mean = likes.mean()
    liked = np.bincount(items, weights=likes, minlength=count)
    return (liked + mean) / (np.bincount(items, minlength=count) + 1)


def of_ranking(config: Any, parts: DatasetSplits, model: Any) -> dict[str, float]:
    """Return the Recall@10 and NDCG@10 of a model that ranks, on the likes of the test part.

    Candidates are all items but the user's training and validation likes, whichever of these the model has seen: those of the
    retrained recommender and of `recgen.recommender.baselines`.

    Parameters
    ----------
    config
        RecBole's Config of the model, with the keys of `recgen.recommender.per_user.ranked_exactly`.
    parts
        The split likes. Of more than `TEST_USERS` test users so many are drawn by the Config's seed.
    model
        The trained model.

    Returns
    -------
    dict
        ``recall@10`` and ``ndcg@10``, and ``users``, of how many it is the mean.
    """
    some = replace(parts, test=of_some_users(parts.test, config["seed"], TEST_USERS))
    data, trainer = loaders(config, some), trainer_for(config, model)
    trainer.eval_collector.data_collect(data.train)
    found = evaluate_per_user(trainer, data.test, CUTOFF)
    users = len(found.pop("user"))
    return {**{name: float(values.mean()) for name, values in found.items()}, "users": users}
