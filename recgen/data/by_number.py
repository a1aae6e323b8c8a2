"""Interactions as generators learn from them: users and items by their row numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def by_number(
    table: pd.DataFrame, item_ids: Sequence[str], known: NDArray[np.bool_]
) -> tuple[list[str], pd.DataFrame]:
    """Return the users' tokens, in the order of a table, and some of its rows by number.

    Parameters
    ----------
    table
        Columns user_id, item_id and split, which are categories, like and timestamp.
    item_ids
        The items' tokens in order.
    known
        bool ``[n]``, the rows to return.

    Returns
    -------
    All users of the table, and columns ``user`` and ``item`` (int64, row numbers), like, timestamp and split.
    """
    codes = {name: table[name].cat.codes.to_numpy() for name in ("user_id", "item_id")}
    users = pd.unique(codes["user_id"])
    places = np.empty(len(table["user_id"].cat.categories), dtype=np.int64)
    places[users] = np.arange(len(users))
    rows = pd.Index(item_ids).get_indexer(table["item_id"].cat.categories)
    columns = {
        "user": places[codes["user_id"][known]],
        "item": rows[codes["item_id"][known]],
        **{name: table[name].to_numpy()[known] for name in ("like", "timestamp")},
        "split": table["split"].astype(object).to_numpy()[known],
    }
    return table["user_id"].cat.categories[users].tolist(), pd.DataFrame(columns, copy=False)
