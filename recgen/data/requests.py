"""Which images are asked for: of which items, for which users.

*paper*: one image per user, of the item that the user liked last. That the user likes it is known beforehand, and every item that
gets an image is a liked one: whatever makes an item stand out then looks like success, one constant image included, and nothing
can be said of images for items that a recommender has yet to place.

*blind*: items are drawn without a look at the test part, from all heights of popularity, and each is asked for by several users
who have not met it, whether they will like it or not. Several users per item make it possible to ask whether a user's own image
beats another user's image of the same item.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from recgen.core.errors import UserError
from recgen.core.sampling import sample_excluding
from recgen.core.seeding import seed_for

COLUMNS = ["user_id", "item_id", "seed", "history"]
HISTORY = 20
"""Likes before the reference that make a history, as in RAGAR's experiments."""
STRATA = 5
"""Bands of popularity that the items of blind requests come from in equal numbers."""


def last_likes(likes: pd.DataFrame, seed: int, wanted: int | None) -> pd.DataFrame:
    """Return one request per user with a test item, the last of them, or as many as are wanted.

    Which users are chosen follows from the seed and each user alone, so that asking for more adds users and changes none. The
    history is what the user liked before, at most 20 items.

    Parameters
    ----------
    likes
        Columns user_id, item_id and split (train, valid, test), by user and oldest first.
    seed
        The run's seed.
    wanted
        How many users; None for all.

    Returns
    -------
    Columns `COLUMNS`, users in the order of `likes`; histories are lists of item tokens, oldest first.
    """
    tested = likes.loc[likes["split"] == "test", "user_id"].unique()
    chosen = in_order(tested, seed, "chosen for a request")[:wanted]
    asked = likes[likes["user_id"].isin(chosen)]
    users, order = pd.factorize(asked["user_id"])
    rows = np.arange(len(asked))
    last = np.zeros(len(order), dtype=np.int64)
    test = (asked["split"] == "test").to_numpy()
    last[users[test]] = rows[test]  # of several the last stands
    items, words = pd.factorize(asked["item_id"])
    tokens = np.asarray(words, dtype=object)
    earlier = (rows < last[users]) & (items != items[last][users])
    histories = _latest(users[earlier], items[earlier], len(order), len(tokens))
    return _requests(
        seed, order.tolist(), tokens[items[last]].tolist(), [tokens[mine].tolist() for mine in histories]
    )


def _latest(users: np.ndarray, items: np.ndarray, n_users: int, n_items: int) -> list[np.ndarray]:
    """Return each user's latest `HISTORY` different items, each where it first stood; rows are by user and oldest first."""
    _, first = np.unique(users * n_items + items, return_index=True)
    first = np.sort(first)
    users, items = users[first], items[first]
    ends = np.searchsorted(users, np.arange(n_users), side="right")
    starts = np.maximum(np.searchsorted(users, np.arange(n_users)), ends - HISTORY)
    return [items[start:end] for start, end in zip(starts, ends, strict=True)]


def _requests(
    seed: int, users: Sequence[str], items: Sequence[str], histories: Sequence[Sequence[str]]
) -> pd.DataFrame:
    """Return requests as rows of `COLUMNS`."""
    seeds = [seed_for(seed, "request", str(user), str(item)) for user, item in zip(users, items, strict=True)]
    return pd.DataFrame(
        {"user_id": users, "item_id": items, "seed": seeds, "history": histories}, columns=COLUMNS
    )


def request_of(seed: int, user: str, item: str, earlier: Sequence[str] | pd.Series) -> dict[str, Any]:
    """Return the request of a user and an item as a row of `COLUMNS`; `earlier` are the user's likes before it, oldest first."""
    history = [token for token in dict.fromkeys(earlier) if token != item][-HISTORY:]
    return {
        "user_id": user,
        "item_id": item,
        "seed": seed_for(seed, "request", user, item),
        "history": history,
    }


def hold_out(chosen: pd.DataFrame, likes: pd.DataFrame, seed: int, share: float) -> pd.DataFrame:
    """Take a share of each user's likes away from their requests' histories, and say which: columns `COLUMNS` and ``held_out``.

    Parameters
    ----------
    chosen
        Requests, with the columns `COLUMNS`.
    likes
        Columns user_id, item_id and split, by user and oldest first. Rows of the test part are dropped at once.
    seed
        The run's seed; with the user's token it decides which likes are held out.
    share
        Which share of them, from 0 to below 1.

    Returns
    -------
    ``history`` has the latest 20 likes of those that are left of what was known before the reference, and ``held_out``, a list,
    all those taken from the user: no two requests of a user differ in it but for their own items, which are in neither.
    """
    known = likes[likes["split"] != "test"]
    known = known[known["user_id"].isin(chosen["user_id"])]
    mine = {
        str(user): rows.tolist()
        for user, rows in known.groupby("user_id", sort=False, observed=True)["item_id"]
    }
    away = {user: _held_out(mine.get(user, []), seed, user, share) for user in chosen["user_id"].unique()}
    rows = []
    for row in chosen.to_dict("records"):
        taken = away[row["user_id"]]
        earlier = mine.get(row["user_id"], [])
        if row["history"]:  # what the protocol has left: nothing later than the reference
            earlier = earlier[: len(earlier) - earlier[::-1].index(row["history"][-1])]
        history = [item for item in dict.fromkeys(earlier) if item not in taken and item != row["item_id"]]
        held = [item for item in dict.fromkeys(earlier) if item in taken and item != row["item_id"]]
        rows.append({**row, "history": history[-HISTORY:], "held_out": held})
    return pd.DataFrame(rows, columns=[*COLUMNS, "held_out"])


def _held_out(items: Sequence[str], seed: int, user: str, share: float) -> set[str]:
    ordered = in_order(dict.fromkeys(items), seed, "held out of histories", user)
    return set(ordered[: round(share * len(ordered))])


def blind(
    interactions: pd.DataFrame, items: Sequence[str], seed: int, count: int, per_item: int, users: int | None
) -> pd.DataFrame:
    """Return requests of items drawn blind to the test part, each for several users who have not met it.

    Parameters
    ----------
    interactions
        Columns user_id, item_id, like (bool) and split, by user and oldest first. Rows of the test part are dropped at once.
    items
        The tokens that may be asked for: those with an image.
    seed
        The run's seed.
    count
        How many items, equally many from each fifth of the catalogue by number of likes before the test part.
    per_item
        How many users an item. They are drawn from all users with a history who have not met the item, by a seed of the item,
        so that another item changes nothing.
    users
        How many users may be asked at all; None for all.

    Returns
    -------
    Columns `COLUMNS`, sorted by user in the order of `interactions`, then by item.

    Raises
    ------
    UserError
        Where the items have fewer than two such users each.
    """
    known = interactions[interactions["split"] != "test"]
    likes = known[known["like"]]
    pool = in_order(likes["user_id"].unique(), seed, "chosen for a request")[:users]
    asked = stratified(items, likes["item_id"].value_counts(), seed, count)
    pairs = _users_of_items(known, asked, pool, seed, per_item)
    if not pairs["item_id"].duplicated().any():
        raise UserError(
            "recgen.requests",
            found=f"{len(asked)} items and {len(pool)} users, of whom no two have not met the same one",
            expected="items that two users or more can be shown",
            todo="Ask for more users, or for protocol: paper.",
        )
    histories = likes[likes["user_id"].isin(pairs["user_id"])].groupby("user_id", sort=False, observed=True)[
        "item_id"
    ]
    items_of = pairs.groupby("user_id")["item_id"].agg(sorted)
    rows = [
        request_of(seed, str(user), item, earlier) for user, earlier in histories for item in items_of[user]
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _users_of_items(
    known: pd.DataFrame, items: Sequence[str], pool: Sequence[str], seed: int, per_item: int
) -> pd.DataFrame:
    """Draw for each item users of the pool who have not met it: columns item_id and user_id."""
    rows, users = (
        pd.Index(items).get_indexer(pd.Index(known["item_id"])),
        pd.Index(pool).get_indexer(pd.Index(known["user_id"])),
    )
    met = (rows.astype(np.int64) * len(pool) + users)[(rows >= 0) & (users >= 0)]
    seeds = np.array([seed_for(seed, "users of an item", item=item) for item in items], dtype=np.uint64)
    item, user = sample_excluding(seeds, np.full(len(items), per_item), len(pool), met)
    return pd.DataFrame(
        {"item_id": np.array(items, dtype=object)[item], "user_id": np.array(pool, dtype=object)[user]}
    )


def stratified(items: Sequence[str], popularity: pd.Series, seed: int, count: int) -> list[str]:
    """Return `count` items, in turn from each band of popularity and within one in an order that the seed gives."""
    shuffled, likes = in_order(items, seed, "item for requests"), popularity.to_dict()
    ranked = sorted(shuffled, key=lambda item: int(likes.get(item, 0)))  # stable: ties stay shuffled
    bands = [list(band) for band in np.array_split(np.array(ranked, dtype=object), STRATA)]
    ordered = [in_order(band, seed, "item for requests") for band in bands]
    return list(_in_turn(ordered))[:count]


def _in_turn(bands: Sequence[Sequence[str]]) -> Iterator[str]:
    for place in range(max(map(len, bands), default=0)):
        yield from (band[place] for band in bands if place < len(band))


def in_order(tokens: Any, seed: int, stage: str, item: str = "") -> list[str]:
    """Return tokens in the order of their seeds, which nothing but the token and the stage decides."""
    return sorted(map(str, tokens), key=lambda token: (seed_for(seed, stage, token, item), token))
