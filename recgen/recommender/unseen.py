"""Encounters that neither the reward nor the judge was trained on, for those who weigh what a ranking model says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from recgen.core.sampling import random_places
from recgen.core.seeding import seed_for
from recgen.recommender.feedback import LABEL
from recgen.recommender.negatives import sample_negatives
from recgen.recommender.recbole import DatasetSplits

COLUMNS = ["user_id", "item_id", "like"]


def of_pointwise(parts: DatasetSplits) -> pd.DataFrame:
    """Return the two tenths of likes and dislikes that stop a pointwise model's training and measure its AUC.

    Columns user_id, item_id (tokens) and like (bool).
    """
    return pd.concat([_table(parts.whole, part) for part in (parts.valid, parts.test)], ignore_index=True)


def of_ranking(interactions: pd.DataFrame, items: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the validation likes, each beside a dislike of the same user or, of users without any, an item not met.

    Parameters
    ----------
    interactions
        The run's, columns user_id, item_id, like, split. The test likes, which requests refer to, are never returned as likes.
    items
        The run's, column item_id.
    seed
        The run's seed.

    Returns
    -------
    pandas.DataFrame
        Columns user_id, item_id (tokens) and like (bool).
    """
    known = interactions[interactions["split"] != "test"]
    likes = known[(known["split"] == "valid") & known["like"]]
    return pd.concat([likes, _dislikes(known, likes, items, seed)], ignore_index=True)[COLUMNS]


def _table(whole: Any, part: Any) -> pd.DataFrame:
    rows = part.inter_feat
    tokens = {
        name: whole.id2token(field, rows[field].numpy())
        for name, field in (("user_id", whole.uid_field), ("item_id", whole.iid_field))
    }
    return pd.DataFrame({**tokens, "like": rows[LABEL].numpy() > 0.5})


def _dislikes(known: pd.DataFrame, likes: pd.DataFrame, items: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return for each user as many dislikes as `likes` has of the user's, or items not met where the user dislikes nothing."""
    wanted = likes["user_id"].value_counts(sort=False)
    disliked = known.loc[~known["like"] & known["user_id"].isin(wanted.index), COLUMNS]
    users, order = pd.factorize(disliked["user_id"])
    rows, tokens = pd.factorize(disliked["item_id"])
    place = random_places(
        np.array([seed_for(seed, "unseen dislikes", str(user)) for user in order], dtype=np.uint64),
        users,
        np.array([seed_for(seed, "unseen dislikes", item=str(item)) for item in tokens], dtype=np.uint64)[
            rows
        ],
    )
    own = disliked[place < wanted.reindex(order).to_numpy()[users]]
    without = wanted[~wanted.index.isin(disliked["user_id"])]
    return pd.concat(
        [
            own,
            sample_negatives(
                known, without.index.to_numpy(), without.to_numpy(), items, seed, "unseen dislikes"
            ),
        ]
    )
