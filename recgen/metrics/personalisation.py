"""Is the image made for *this* user? Rank change, likeness to the user's taste, over-optimisation.

Ranks are 0-based among all items: 0 is the top of the user's list. A value that cannot be measured (a user
without a history image, an item without an image) is NaN, and the summaries of `recgen.metrics.statistics`
leave it out of n.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.floating]


def delta_r(rank_original: ArrayLike, rank_creative: ArrayLike) -> FloatArray:
    """Rank change relative to the rank with the original image (RAGAR, Delta R).

    Parameters
    ----------
    rank_original, rank_creative
        ``[n]`` 0-based ranks among all items with the original image and with the creative.

    Returns
    -------
    float64 ``[n]``, (original - creative) / (1 + original): positive when the item rises, below 1 always, and
    without a lower bound (an item that falls from the first place to the 51st scores -50).

    Raises
    ------
    ValueError
        If a rank is negative.

    Examples
    --------
    >>> delta_r([9, 0, 4], [4, 50, 4]).tolist()
    [0.5, -50.0, 0.0]
    """
    before, after = np.asarray(rank_original, dtype=np.float64), np.asarray(rank_creative, dtype=np.float64)
    if (before < 0).any() or (after < 0).any():
        raise ValueError("ranks are 0-based and cannot be negative")
    return (before - after) / (1.0 + before)


def risen(rank_original: ArrayLike, rank_creative: ArrayLike) -> FloatArray:
    """Whether the item stands higher with the creative.

    Parameters
    ----------
    rank_original, rank_creative
        ``[n]`` 0-based ranks among all items.

    Returns
    -------
    float64 ``[n]``, 1 where it does, else 0. Its mean is the share of items that rise.

    Examples
    --------
    >>> risen([9, 0, 4], [4, 50, 4]).tolist()
    [1.0, 0.0, 0.0]
    """
    return (np.asarray(rank_creative) < np.asarray(rank_original)).astype(np.float64)


def reciprocal_rank_gain(rank_original: ArrayLike, rank_creative: ArrayLike) -> FloatArray:
    """Change of the reciprocal place, bounded where Delta R is not.

    Returns
    -------
    float64 ``[n]``, 1 / (1 + creative) - 1 / (1 + original), between -1 and 1; arguments as of `risen`.

    Examples
    --------
    >>> reciprocal_rank_gain([9, 0, 4], [4, 50, 4]).round(3).tolist()
    [0.1, -0.98, 0.0]
    """
    before, after = np.asarray(rank_original, dtype=np.float64), np.asarray(rank_creative, dtype=np.float64)
    return 1.0 / (1.0 + after) - 1.0 / (1.0 + before)


def percentile_gain(rank_original: ArrayLike, rank_creative: ArrayLike, items: int) -> FloatArray:
    """Change of place as a share of the catalogue, in which a rise from the middle counts as much as one at the top.

    Parameters
    ----------
    rank_original, rank_creative
        As of `risen`.
    items
        How many items there are.

    Returns
    -------
    float64 ``[n]``, between -1 and 1: 0.1 is a rise past a tenth of the catalogue.

    Examples
    --------
    >>> percentile_gain([9, 0], [4, 50], 101).tolist()
    [0.05, -0.5]
    """
    before, after = np.asarray(rank_original, dtype=np.float64), np.asarray(rank_creative, dtype=np.float64)
    return (before - after) / max(items - 1, 1)


def standardised_gain(score_gain: ArrayLike, spread: ArrayLike) -> FloatArray:
    """Change of a ranking model's score in units of how far the user's scores of the catalogue lie apart.

    Like a change of place it compares across ranking models, whose scores have units of their own, and across users. Unlike one
    it has no end: an item that is among a user's first can rise no further in the list, however much better an image is.

    Parameters
    ----------
    score_gain
        ``[n]`` the score with the creative less the one with the item's own image.
    spread
        ``[n]`` the standard deviation of the user's scores of all items with their own images; where it is 0 the model tells
        nothing apart, and nothing is gained.

    Returns
    -------
    float64 ``[n]``, standard deviations.

    Examples
    --------
    >>> standardised_gain([1.0, -0.5, 3.0], [0.5, 2.0, 0.0]).tolist()
    [2.0, -0.25, 0.0]
    """
    gain, unit = np.asarray(score_gain, dtype=np.float64), np.asarray(spread, dtype=np.float64)
    return np.divide(gain, unit, out=np.zeros_like(gain), where=unit > 0)


def over_optimisation_gap(by_reward: ArrayLike, by_judge: ArrayLike) -> FloatArray:
    """How much better a creative looks to the model that trained the generator than to one that did not.

    Parameters
    ----------
    by_reward, by_judge
        ``[n]`` the same metric (Delta R) by the reward model and by the judge.

    Returns
    -------
    float64 ``[n]``, reward minus judge. A mean above zero says that the generator has learned quirks of the
    reward model.

    Examples
    --------
    >>> over_optimisation_gap([0.5, 0.25], [0.25, 0.5]).tolist()
    [0.25, -0.25]
    """
    return np.asarray(by_reward, dtype=np.float64) - np.asarray(by_judge, dtype=np.float64)


def cps(creatives: FloatArray, keywords: FloatArray) -> FloatArray:
    """CLIP personalisation score: the creative against the words for the user's preference (RAGAR).

    Parameters
    ----------
    creatives
        ``[n, D]`` CLIP image embeddings; need not be normalised.
    keywords
        ``[n, D]`` CLIP text embeddings of the preference keywords of each creative's user.

    Returns
    -------
    float64 ``[n]``, 100 max(cos, 0) (Hessel et al. 2021 with weight 100), from 0 to 100.

    Examples
    --------
    >>> cps(np.array([[2.0, 0.0], [1.0, 0.0]]), np.array([[5.0, 0.0], [-1.0, 0.0]])).tolist()
    [100.0, 0.0]
    """
    return 100.0 * np.maximum(cosine(creatives, keywords), 0.0)


def cpis(creatives: FloatArray, images: FloatArray, histories: Sequence[ArrayLike]) -> FloatArray:
    """CLIP personalisation image score: the creative against the images of the user's history (RAGAR).

    Parameters
    ----------
    creatives
        ``[n, D]`` CLIP image embeddings.
    images
        ``[m, D]`` CLIP image embeddings of the catalogue's images; rows of NaN are items without one.
    histories
        For each creative the rows of `images` that its user liked.

    Returns
    -------
    float64 ``[n]``, 100 times the mean cosine over the history's images, from -100 to 100; NaN without any.

    Examples
    --------
    >>> cpis(np.array([[1.0, 0.0]]), np.array([[3.0, 0.0], [0.0, 1.0]]), [[0, 1]]).tolist()
    [50.0]
    """
    first, second = history_pairs(histories)
    return history_mean(100.0 * cosine(creatives[first], images[second]), first, len(creatives))


def topic_precision(topics: Sequence[Sequence[str]], liked: Sequence[Sequence[Sequence[str]]]) -> FloatArray:
    """Whether all that a creative shows is among what its user has liked before (REBECA, section 4.4, topic precision).

    Parameters
    ----------
    topics
        For each of n creatives its topics, one of each kind.
    liked
        For each creative the topics of each image that its user liked, in the same order of kinds.

    Returns
    -------
    float64 ``[n]``, 1 where every topic is that of some liked image, else 0; NaN for a user without a liked image.

    Examples
    --------
    >>> topic_precision([("red", "dots"), ("red", "bars"), ("red",)], [[("red", "bars"), ("blue", "dots")]] * 2 + [[]]).tolist()
    [1.0, 1.0, nan]
    >>> topic_precision([("red", "rings")], [[("red", "bars"), ("blue", "dots")]]).tolist()
    [0.0]
    """
    found = [
        all(topic in kinds for topic, kinds in zip(own, map(set, zip(*others, strict=True)), strict=True))
        if others
        else np.nan
        for own, others in zip(topics, liked, strict=True)
    ]
    return np.array(found, dtype=np.float64)


def history_pairs(histories: Sequence[ArrayLike]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List every (creative, history image) pair of ragged histories.

    Examples
    --------
    >>> [rows.tolist() for rows in history_pairs([[7, 8], [], [9]])]
    [[0, 0, 2], [7, 8, 9]]
    """
    rows = [np.asarray(history, dtype=np.int64).reshape(-1) for history in histories]
    owners = np.repeat(np.arange(len(rows)), [len(history) for history in rows])
    return owners.astype(np.int64), np.concatenate([np.empty(0, dtype=np.int64), *rows])


def history_mean(values: ArrayLike, owners: NDArray[np.int64], n: int) -> FloatArray:
    """Mean of the values of each creative's pairs.

    Parameters
    ----------
    values
        ``[p]`` one value per pair of `history_pairs`; NaN pairs are left out.
    owners
        ``[p]`` the creative of each pair.
    n
        The number of creatives.

    Returns
    -------
    float64 ``[n]``; NaN for a creative without a measured pair.

    Examples
    --------
    >>> history_mean([1.0, 3.0, float("nan")], np.array([0, 0, 1]), 2).tolist()
    [2.0, nan]
    """
    weights = np.asarray(values, dtype=np.float64)
    known = np.isfinite(weights)
    total = np.bincount(owners[known], weights=weights[known], minlength=n)
    count = np.bincount(owners[known], minlength=n)
    return np.divide(total, count, out=np.full(n, np.nan), where=count > 0)


def cosine(first: FloatArray, second: FloatArray) -> FloatArray:
    """Row-wise cosine of two ``[n, D]`` arrays as float64 ``[n]``; NaN where a row is NaN or zero."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"two arrays [n, D] of one shape are needed, got {a.shape} and {b.shape}")
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide(np.einsum("nd,nd->n", a, b), norms, out=np.full(len(a), np.nan), where=norms > 0)


def true_utility_gain(utility_original: ArrayLike, utility_creative: ArrayLike) -> FloatArray:
    """How much more the simulated user truly likes the creative than the original image.

    Parameters
    ----------
    utility_original, utility_creative
        ``[n]`` true utilities of the simulator's taste model, in log-odds of a click.

    Returns
    -------
    float64 ``[n]``, creative minus original, in log-odds.

    Examples
    --------
    >>> true_utility_gain([0.5], [1.75]).tolist()
    [1.25]
    """
    return np.asarray(utility_creative, dtype=np.float64) - np.asarray(utility_original, dtype=np.float64)
