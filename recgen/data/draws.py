"""Which creatives the downstream test asks for: items drawn blind to the test part, for users who like them and for others.

A generator that puts a user's taste into an image puts that of an item's audience into the images drawn for its audience.
Whether a recommender ranks better with these is asked beside images of the same items by the same generator for users who have
not met them: whatever touching an item, or any image of it, does to a ranking, both do.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from recgen.core.seeding import seed_for
from recgen.data.requests import COLUMNS, in_order, request_of, stratified

OWN, SWAPPED = "own", "swapped"
"""Whom a creative is drawn for: a user who likes the item in the training part, or one who has not met it."""
STAGE = "downstream draw"


def draw(
    interactions: pd.DataFrame, items: Sequence[str], seed: int, turn: int, count: int, per_item: int
) -> pd.DataFrame:
    """Return the requests of one draw.

    Parameters
    ----------
    interactions
        Columns user_id, item_id, like (bool) and split, by user and oldest first. Only training likes are looked at, and who has
        met an item before the test part.
    items
        The tokens that may be drawn: those with an image.
    seed, turn
        The run's seed, and the number of the draw.
    count
        How many items, equally many from each fifth of the catalogue by training likes; fewer where fewer have a user of each
        kind.
    per_item
        How many users of each kind an item, at most; as many of one as of the other.

    Returns
    -------
    Columns ``kind`` (`OWN` or `SWAPPED`) and `recgen.data.requests.COLUMNS`, item by item. Histories are training likes.
    """
    likes = interactions[interactions["like"] & (interactions["split"] == "train")]
    known = interactions[interactions["split"] != "test"]
    histories = {str(user): rows["item_id"] for user, rows in likes.groupby("user_id", sort=False)}
    audience = {str(item): set(rows["user_id"]) for item, rows in likes.groupby("item_id")}
    met = {str(item): set(rows["user_id"]) for item, rows in known.groupby("item_id")}
    everybody = set(histories)
    possible = [item for item in items if audience.get(item) and everybody - met[item]]
    own = seed_for(seed, STAGE, str(turn))
    rows = []
    for item in stratified(possible, likes["item_id"].value_counts(), own, count):
        kinds = {OWN: audience[item], SWAPPED: everybody - met[item]}
        size = min(per_item, *map(len, kinds.values()))
        for kind, users in kinds.items():
            for user in in_order(users, own, STAGE, item)[:size]:
                rows.append({"kind": kind, **request_of(own, user, item, histories[user])})
    return pd.DataFrame(rows, columns=["kind", *COLUMNS])
