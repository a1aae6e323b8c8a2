"""What ranking without a model would reach: at random, and by popularity. Both exactly, without drawing anything."""

from __future__ import annotations

from typing import Any

import numpy as np

from recgen.recommender.recbole import DatasetSplits


def baselines(parts: DatasetSplits, k: int = 10) -> dict[str, dict[str, float]]:
    """Return the Recall@k and NDCG@k of a random ranking and of one by popularity, on a model's test candidates.

    Candidates of a user are all items but the user's training and validation items, and popularity is an item's number of
    training interactions. Means are over the users with test items, as RecBole takes them; random orders, of everything
    or among items that are equally popular, count with their expectation.

    Parameters
    ----------
    parts
        The split interactions.
    k
        The cutoff.

    Returns
    -------
    dict
        ``{"chance" or "popularity": {"recall@k": float, "ndcg@k": float}}``.
    """
    whole = parts.whole
    train, valid, test = (_items_of_users(part, whole) for part in (parts.train, parts.valid, parts.test))
    bought = parts.train.inter_feat[whole.iid_field].numpy()
    popularity = np.bincount(bought, minlength=whole.item_num).astype(np.float64)
    scores = {"chance": np.zeros(whole.item_num), "popularity": popularity}
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in scores}
    for user, relevant in test.items():
        known = (train.get(user, set()) | valid.get(user, set())) - relevant
        candidates = np.setdiff1d(np.arange(1, whole.item_num), np.array(sorted(known), dtype=np.int64))
        wanted = np.isin(candidates, np.array(sorted(relevant)))
        for name, values in scores.items():
            results[name].append(expected_metrics(values[candidates], wanted, k))
    names = (f"recall@{k}", f"ndcg@{k}")
    return {
        name: dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True)) for name, rows in results.items()
    }


def expected_metrics(scores: np.ndarray, relevant: np.ndarray, k: int) -> tuple[float, float]:
    """Return (Recall@k, NDCG@k) of a ranking by `scores`, expected over random orders of equal scores.

    Parameters
    ----------
    scores
        float ``[n]``, of the candidates; higher is better.
    relevant
        bool ``[n]``, at least one True.
    k
        The cutoff.

    Notes
    -----
    An item among m with the same score, of which the first has 0-based rank r, is at each of the ranks r, ..., r + m - 1
    with probability 1 / m; both metrics are sums over the relevant items, so their expectations are too.
    """
    places = np.arange(len(scores))
    gain = np.where(places < k, 1 / np.log2(places + 2.0), 0.0)
    hits, gains = (np.concatenate([[0.0], np.cumsum(each)]) for each in (places < k, gain))
    order = np.sort(-scores)
    first = np.searchsorted(order, -scores[relevant], side="left")
    after = np.searchsorted(order, -scores[relevant], side="right")
    count = int(relevant.sum())
    recall = ((hits[after] - hits[first]) / (after - first)).sum() / count
    return float(recall), float(((gains[after] - gains[first]) / (after - first)).sum() / gain[:count].sum())


def _items_of_users(part: Any, whole: Any) -> dict[int, set[int]]:
    users, items = (part.inter_feat[field].tolist() for field in (whole.uid_field, whole.iid_field))
    found: dict[int, set[int]] = {}
    for user, item in zip(users, items, strict=True):
        found.setdefault(user, set()).add(item)
    return found
