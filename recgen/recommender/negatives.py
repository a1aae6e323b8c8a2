"""Negatives: items that users have not met, sampled for many users at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from recgen.core.sampling import sample_excluding
from recgen.core.seeding import seed_for


def sample_negatives(
    known: pd.DataFrame, users: Any, wanted: Any, items: pd.DataFrame, seed: int, stage: str
) -> pd.DataFrame:
    """Draw for each user so many items that the user has not met, as dislikes: columns user_id, item_id and like (False).

    Parameters
    ----------
    known
        Columns user_id and item_id, what users have met.
    users, wanted
        ``[u]`` user tokens, and how many items each is given; a user who has met nearly everything gets fewer.
    items
        Column item_id, the catalogue.
    seed, stage
        The run's seed, and what is drawn for: with the user's token and what the user has met they decide the items.
    """
    rows, columns = (
        pd.Index(users).get_indexer(pd.Index(known["user_id"])),
        pd.Index(items["item_id"]).get_indexer(pd.Index(known["item_id"])),
    )
    met = (rows.astype(np.int64) * len(items) + columns)[(rows >= 0) & (columns >= 0)]
    seeds = np.array([seed_for(seed, stage, str(user)) for user in users], dtype=np.uint64)
    owner, item = sample_excluding(seeds, np.asarray(wanted, dtype=np.int64), len(items), met)
    return pd.DataFrame(
        {
            "user_id": np.asarray(users, dtype=object)[owner],
            "item_id": items["item_id"].to_numpy()[item],
            "like": False,
        }
    )
