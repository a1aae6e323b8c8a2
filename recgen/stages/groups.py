"""One creative for a group of users: who belongs together, and whose creative the group is shown (``requests: {per: group}``).

Users are clustered by their taste in images: by what the generator `taste` asks, the reward's and their own likes' opinion of the
catalogue, net of what the items' texts explain (`generators.taste.asked`). It says what a user likes about images whatever draws
them. A group is shown the creatives of its *representative*, the member nearest to the group's mean, so that any generator can
draw for a group as it draws for a user, and nothing of a generator has to know of groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from generators.taste.asked import Asked, Sources
from generators.taste.catalogue import Catalogue, sampled_rows, word_groups
from generators.taste.learned import beliefs
from generators.taste.settings import Settings as TasteSettings
from recgen.core.io import read_features, write_features, write_parquet
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.requests import request_of
from recgen.data.types import Request
from recgen.features.k_means import k_means
from recgen.pipeline.context import RunContext
from recgen.pipeline.groups import is_shared, plan
from recgen.stages.ranker import reward_model

LOOKED_AT = 2_000
"""Items whose scores make a taste, at most; of a larger catalogue a sample by the run's seed."""
DIRECTIONS = 32
"""Leading directions of users' scores that are kept, at most."""
SAMPLE = 2_000
"""Users by whom the directions are found, at most."""
TABLE, TASTES = "creatives/groups.parquet", "creatives/tastes.safetensors"


def cluster(run: RunContext) -> list[Path]:
    """Write who belongs to which group: creatives/groups.parquet, and what users were clustered by, float32 ``[users, d]``."""
    points = tastes(run)
    write_features(run.folder / TASTES, points)
    write_parquet(run.folder / TABLE, grouped(run, points, plan(run.settings).groups))
    return [run.folder / TASTES, run.folder / TABLE]


def grouped(run: RunContext, points: np.ndarray, count: int) -> pd.DataFrame:
    """Return each user's group and its representative: columns user_id, group (int) and representative (a user's token).

    Parameters
    ----------
    run
        The run, whose users they are.
    points
        What `tastes` returned.
    count
        How many groups, at most one a user.
    """
    centres, members = k_means(points, count, seed_for(run.settings.seed, "groups of users"))
    distance = np.square(points - centres[members]).sum(axis=1)
    users = np.array(run.data.user_ids, dtype=object)
    order = np.lexsort((users, distance))  # of equally near members the first by token
    first = pd.Series(users[order]).groupby(members[order]).first()
    return pd.DataFrame({"user_id": users, "group": members, "representative": first.loc[members].to_numpy()})


def tastes(run: RunContext) -> np.ndarray:
    """Return what users are clustered by, float32 ``[users, d]`` in the order of `RunData.user_ids`.

    A user's scores of some items net of content, less the mean over users, on their `DIRECTIONS` leading principal directions.
    Someone of whom nothing is known is at the mean of all.
    """
    asked, _, shared = asking(run)
    users = np.arange(len(run.data.user_ids))

    def net(rows: np.ndarray) -> np.ndarray:
        return asked.ask(rows.tolist(), np.full(len(rows), -1))[0] - shared

    some = users
    if len(users) > SAMPLE:
        rng = numpy_rng(run.settings.seed, "users for directions of taste")
        some = np.sort(rng.choice(users, SAMPLE, replace=False))
    _, _, directions = np.linalg.svd(net(some), full_matrices=False)
    kept = directions[:DIRECTIONS].T
    return np.concatenate([net(users[part]) @ kept for part in asked.chunks(len(users))]).astype(np.float32)


def asking(run: RunContext) -> tuple[Asked, Catalogue, np.ndarray]:
    """Return who is asked about users, the items it is asked about, and the mean of all users' scores, float32 ``[N]``."""
    data, reward = run.data, reward_model(run, "reward")
    words = word_groups(TasteSettings.model_validate({"show": "image"}), run.models.encoder)
    catalogue = Catalogue.of(data, sampled_rows(data, LOOKED_AT), words, run.models.encoder)
    belief, shared = beliefs(data, catalogue, reward)
    sources = Sources.of(data, catalogue, reward, belief.basis, belief.population)
    return Asked(sources, belief), catalogue, shared


def read_tastes(run: RunContext) -> np.ndarray:
    """Return what `cluster` clustered by."""
    return read_features(run.folder / TASTES)


def representatives(run: RunContext) -> dict[str, str]:
    """Return for every user whose creatives the user is shown."""
    table = pd.read_parquet(run.folder / TABLE)
    return dict(zip(table["user_id"], table["representative"], strict=True))


def shown_to(run: RunContext, users: Sequence[str]) -> list[str]:
    """Return whose creatives users are shown: their own, or where users share them those of their groups' representatives."""
    if not plan(run.settings).shares:
        return list(users)
    known = representatives(run)
    return [known[user] for user in users]


def drawn_requests(run: RunContext, name: str) -> Sequence[Request]:
    """Return what a generator is asked to draw: the run's requests, or where users share creatives one a group and item."""
    return of_groups(run, representatives(run), run.requests) if is_shared(run, name) else run.requests


def of_groups(run: RunContext, shown: dict[str, str], requests: Sequence[Request]) -> list[Request]:
    """Return the requests of representatives that answer some requests, each once and in the order in which they first come.

    A representative's history is all that is known of the representative's likes, but for the item itself.
    """
    pairs = list(dict.fromkeys((shown[request.user_id], request.item_id) for request in requests))
    known = run.data.interactions
    rows = {run.data.user_rows[user] for user, _ in pairs}
    liked = known[known["like"] & known["user"].isin(rows)].groupby("user")["item"]
    tokens = np.array(run.data.item_ids, dtype=object)
    histories = {run.data.user_ids[int(user)]: tokens[items.to_numpy()].tolist() for user, items in liked}  # type: ignore[arg-type]
    asked = [request_of(run.settings.seed, user, item, histories.get(user, [])) for user, item in pairs]
    return [Request(row["user_id"], row["item_id"], row["seed"], tuple(row["history"])) for row in asked]


def shared(
    run: RunContext, requests: Sequence[Request], made: pd.DataFrame, embeddings: np.ndarray
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return for each request the row and the embedding of its group's creative, under the name of the user who is shown it.

    Parameters
    ----------
    run
        The run.
    requests
        For whom; those without a creative of their group are left out.
    made, embeddings
        The creatives of representatives: columns user_id and item_id, and any others; ``[n, D]``.
    """
    known = representatives(run)
    places = {pair: row for row, pair in enumerate(zip(made["user_id"], made["item_id"], strict=True))}
    pairs = [(known[request.user_id], request.item_id) for request in requests]
    there = [row for row, pair in enumerate(pairs) if pair in places]
    chosen = [places[pairs[row]] for row in there]
    rows = made.iloc[chosen].assign(user_id=[requests[row].user_id for row in there])
    return rows.reset_index(drop=True), embeddings[chosen]
