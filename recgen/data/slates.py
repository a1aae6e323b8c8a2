"""Lists of items to rank again with creatives: a user's held-out like among items that a recommender without images ranks high.

Every item of a list shows a creative, the held-out like as well as the others, so that a creative does not tell which one it is.
Users come in pairs that share their list: each is then also shown what was drawn of the same items for the other. The other items
are chosen by a model that sees no images; one that does would have chosen them for the images that they are about to lose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recgen.core.seeding import seed_for
from recgen.data.requests import COLUMNS, in_order, request_of

Scores = Callable[[list[str]], NDArray[np.floating]]
STAGE = "slate"
CANDIDATES = ["slate", "user_id", "item_id", "partner", "relevant"]


def slates(
    interactions: pd.DataFrame,
    items: Sequence[str],
    scores: Scores,
    seed: int,
    turn: int,
    users: int,
    negatives: int,
) -> pd.DataFrame:
    """Return the candidates of one draw of users.

    Parameters
    ----------
    interactions
        Columns user_id, item_id, like (bool) and split, by user and oldest first.
    items
        The tokens of the catalogue.
    scores
        Returns the scores float ``[B, N]`` that a model without images gives all items, for B users' tokens.
    seed, turn
        The run's seed, and the number of the draw.
    users
        How many users with a test like, two to a list.
    negatives
        How many items beside the two held-out likes, that neither has met or will like.

    Returns
    -------
    Columns `CANDIDATES`: one row per user and item of the user's list, with the other user of the pair and whether the item is
    the user's held-out like (the last one). What a user has met is never a candidate.
    """
    own = seed_for(seed, STAGE, str(turn))
    test = interactions[interactions["split"] == "test"]
    references = test.drop_duplicates("user_id", keep="last").set_index("user_id")["item_id"]
    chosen = in_order(references.index, own, "chosen")[: users - users % 2]
    everything = {str(user): set(rows["item_id"]) for user, rows in interactions.groupby("user_id")}
    met = interactions[interactions["split"] != "test"].groupby("user_id")["item_id"].agg(set)
    places = {user: row for row, user in enumerate(chosen)}
    ranks = _percentiles(np.asarray(scores(chosen))) if chosen else np.zeros((0, len(items)))
    rows = []
    for slate, (a, b) in enumerate(zip(chosen[::2], chosen[1::2], strict=True)):
        both = ranks[places[a]] + ranks[places[b]]
        touched = everything[a] | everything[b]
        order = (items[row] for row in np.argsort(-both, kind="stable"))
        hard = [item for item in order if item not in touched][:negatives]
        shared = list(dict.fromkeys([references[a], references[b], *hard]))
        for user, other in ((a, b), (b, a)):
            for item in shared:
                if item == references[user] or item not in met.get(user, set()):
                    rows.append((slate, user, item, other, item == references[user]))
    return pd.DataFrame(rows, columns=CANDIDATES)


def requests_of(candidates: pd.DataFrame, interactions: pd.DataFrame, seed: int, turn: int) -> pd.DataFrame:
    """Return the requests, columns `recgen.data.requests.COLUMNS`, of every candidate for its user and for the user's partner."""
    likes = interactions[interactions["like"] & (interactions["split"] != "test")]
    histories = {str(user): rows["item_id"] for user, rows in likes.groupby("user_id", sort=False)}
    own, empty = seed_for(seed, STAGE, str(turn)), pd.Series(dtype=object)
    pairs = dict.fromkeys(
        (user, item)
        for row in candidates.to_dict("records")
        for user, item in ((row["user_id"], row["item_id"]), (row["partner"], row["item_id"]))
    )
    rows = [request_of(own, user, item, histories.get(user, empty)) for user, item in pairs]
    return pd.DataFrame(rows, columns=COLUMNS)


def _percentiles(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return each item's place in its row, 0 for the lowest score to 1 for the highest, float64 ``[B, N]``."""
    order = np.argsort(np.argsort(scores, axis=1, kind="stable"), axis=1, kind="stable")
    return order / max(scores.shape[1] - 1, 1)
