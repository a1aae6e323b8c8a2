"""Encounters that neither the reward nor the judge was trained on, for those who weigh what a ranking model says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from recgen.core.seeding import numpy_rng
from recgen.recommender import feedback

if TYPE_CHECKING:
    from recgen.pipeline.context import RunContext


def unseen_encounters(run: RunContext, model: str) -> pd.DataFrame:
    """Return encounters that no ranking model of the run was trained on: columns user_id, item_id (tokens) and like (bool).

    For a model of likes and dislikes they are the two tenths of its data that stop its training and measure its AUC. For one
    that ranks likes they are the validation likes, each beside one dislike of the same user, or, of users who dislike nothing,
    one item that the user has not met. The references of the requests are never among the likes.

    Parameters
    ----------
    run
        The run.
    model
        The ranking model by name.
    """
    if feedback.is_pointwise(run, model):
        parts = feedback.split(run, model)
        return pd.concat([_table(parts.whole, part) for part in (parts.valid, parts.test)], ignore_index=True)
    known = run.interactions[run.interactions["split"] != "test"]
    likes = known[(known["split"] == "valid") & known["like"]]
    return pd.concat([likes, _dislikes(run, known, likes)], ignore_index=True)[["user_id", "item_id", "like"]]


def _table(whole, part) -> pd.DataFrame:
    rows = part.inter_feat
    tokens = {
        name: whole.id2token(field, rows[field].numpy())
        for name, field in (("user_id", whole.uid_field), ("item_id", whole.iid_field))
    }
    return pd.DataFrame({**tokens, "like": rows["label"].numpy() > 0.5})


def _dislikes(run: RunContext, known: pd.DataFrame, likes: pd.DataFrame) -> pd.DataFrame:
    items, rows = run.items["item_id"].to_numpy(), []
    met = dict(list(known.groupby("user_id", sort=False)))
    for user, mine in likes.groupby("user_id", sort=False):
        all_met = met[user]
        free = all_met.loc[~all_met["like"], "item_id"].to_numpy()
        if not len(free):
            free = items[~pd.Index(items).isin(all_met["item_id"])]
        drawn = numpy_rng(run.settings.seed, "unseen dislikes", str(user)).permutation(free)[: len(mine)]
        rows += [(user, item, False) for item in drawn]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "like"])
