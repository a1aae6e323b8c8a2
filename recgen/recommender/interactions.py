"""What users did, as one table: RecBole's likes with the file's own times, and the dislikes that RecBole drops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recgen.core.columns import ROWS
from recgen.recommender.recbole import DatasetSplits

SPLITS = ("train", "valid", "test", "none")
"""Parts of RecBole's split, and what dislikes are in."""

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class _Rows:
    """Interactions as columns: users and items by number, from 0, and -1 for one that RecBole has filtered out."""

    user: Int32
    item: Int32
    rating: Float64
    time: Float64

    def take(self, rows: NDArray[Any]) -> _Rows:
        return _Rows(self.user[rows], self.item[rows], self.rating[rows], self.time[rows])

    def pairs(self, n_items: int) -> Int64:
        """Return a number for each pair of user and item."""
        return self.user.astype(np.int64) * n_items + self.item


def assemble(
    raw: pd.DataFrame, parts: DatasetSplits, like_threshold: float | None
) -> tuple[pd.DataFrame, list[str]]:
    """Return a data set's interactions, and its items in RecBole's order.

    Parameters
    ----------
    raw
        The whole `.inter` file: columns user_id, item_id, rating and timestamp, both NaN where there is none.
    parts
        RecBole's split of what is at least `like_threshold`.
    like_threshold
        Ratings below it are dislikes; None makes every interaction a like. Those before their user's reference, the last like of
        the test part, are kept.

    Returns
    -------
    Columns user_id, item_id, rating, timestamp, like and split, by user in RecBole's order and oldest first within one; what
    has no time stays in the order it came in. Strings are pandas' categories: a row takes 26 bytes.
    """
    whole = parts.whole
    users, items = (whole.field2id_token[field][1:] for field in (whole.uid_field, whole.iid_field))
    file = _Rows(
        pd.Index(users).get_indexer(pd.Index(raw["user_id"])).astype(np.int32),
        pd.Index(items).get_indexer(pd.Index(raw["item_id"])).astype(np.int32),
        raw["rating"].to_numpy(np.float64),
        raw["timestamp"].to_numpy(np.float64),
    )
    del raw
    rows, split = _likes(parts, file, len(items))
    if like_threshold is not None:
        below = _dislikes(file, like_threshold, _references(rows, split, len(users)))
        del file
        rows = _joined(rows, below)
        split = np.concatenate([split, np.full(len(below.user), SPLITS.index("none"), dtype=np.int8)])
        del below
    order = np.lexsort((rows.time, rows.user))  # stable, and NaN last
    rows, split = rows.take(order), split[order]
    columns = {
        "user_id": pd.Categorical.from_codes(rows.user, users.tolist()),
        "item_id": pd.Categorical.from_codes(rows.item, items.tolist()),
        "rating": rows.rating,
        "timestamp": rows.time,
        "like": split != SPLITS.index("none"),
        "split": pd.Categorical.from_codes(split, pd.Index(SPLITS)),
    }
    return pd.DataFrame(columns, copy=False), items.tolist()


def _likes(parts: DatasetSplits, file: _Rows, n_items: int) -> tuple[_Rows, Int8]:
    """Return RecBole's interactions with the file's ratings and times, oldest first within a user, and each one's part."""
    whole, columns = parts.whole, []
    for part in (parts.train, parts.valid, parts.test):
        rows = part.inter_feat
        columns.append(
            [rows[field].numpy().astype(np.int32) - 1 for field in (whole.uid_field, whole.iid_field)]
        )
    split = np.repeat(np.arange(3, dtype=np.int8), [len(user) for user, _ in columns])
    user, item = (np.concatenate(each) for each in zip(*columns, strict=True))
    at = _same(user.astype(np.int64) * n_items + item, file, n_items)
    rating, time = (np.where(at >= 0, values[at], np.nan) for values in (file.rating, file.time))
    found = _Rows(user, item, rating, time)
    order = np.lexsort((time, user))
    return found.take(order), split[order]


def _same(pairs: Int64, file: _Rows, n_items: int) -> Int64:
    """Return for the n-th of a (user, item) pair the file's n-th in time: its row, or -1."""
    wanted, found = np.sort(pairs), []
    for start in range(0, len(file.user), ROWS):
        rows = np.arange(start, min(start + ROWS, len(file.user)))
        rows = rows[(file.user[rows] >= 0) & (file.item[rows] >= 0)]
        keys = file.take(rows).pairs(n_items)
        at = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
        found.append(rows[wanted[at] == keys])
    known = np.concatenate([np.zeros(0, np.int64), *found])
    keys = file.take(known).pairs(n_items)
    order = np.lexsort((file.time[known], keys))  # stable, and NaN last
    known, keys = known[order], keys[order]
    at = np.searchsorted(keys, pairs) + _turns(pairs)
    inside = np.minimum(at, len(keys) - 1)
    return np.where((at < len(keys)) & (keys[inside] == pairs), known[inside], -1)


def _turns(keys: Int64) -> Int64:
    """Number the occurrences of each key from 0, in order."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.diff(np.append(first, len(keys)))
    turns = np.empty(len(keys), dtype=np.int64)
    turns[order] = np.arange(len(keys)) - np.repeat(first, counts)
    return turns


def _references(likes: _Rows, split: Int8, n_users: int) -> Float64:
    """Return the time of each user's last like of the test part; NaN where it has none, or there is none."""
    times = np.full(n_users, np.nan)
    test = split == SPLITS.index("test")
    times[likes.user[test]] = likes.time[test]  # of several the last stands
    return times


def _dislikes(file: _Rows, threshold: float, references: Float64) -> _Rows:
    """Return the ratings below the threshold that came before their user's reference."""
    below = file.take((file.rating < threshold) & (file.user >= 0) & (file.item >= 0))
    limit = references[below.user]
    return below.take(np.isnan(below.time) | ~(below.time >= limit))


def _joined(first: _Rows, second: _Rows) -> _Rows:
    return _Rows(
        *(
            np.concatenate([getattr(first, name), getattr(second, name)])
            for name in ("user", "item", "rating", "time")
        )
    )
