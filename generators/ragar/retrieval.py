"""The retrieval module (section 4.3): which images matter for this user and item, and their weighted mean.

Captions (eq. 1) and their embeddings E_sem (eq. 2) and image embeddings E_vis (eq. 4) come with the run's data. `retrieve` is the
paper's: a history by its similarity to the item. `retrieve_preferred` asks the recommender too, about any candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Retrieved:
    """What eqs. 3-5 find in one history.

    Attributes
    ----------
    rows
        Catalogue rows of S_ret, the most similar first.
    weights
        float64 ``[k]``, s' of eq. 5: they sum to 1.
    preference
        float32 ``[D]``, P_ret of eq. 5; None where no item of the history has an image.
    """

    rows: list[int]
    weights: np.ndarray
    preference: np.ndarray | None


def retrieve(
    history: list[int], reference: int, semantics: np.ndarray, visuals: np.ndarray, k: int
) -> Retrieved:
    """Return the top-k of a history by the similarity of its captions to the reference's, and their fusion (eqs. 3-5).

    Parameters
    ----------
    history
        Catalogue rows of the items the user liked, oldest first.
    reference
        Catalogue row of the reference item.
    semantics
        float32 ``[n_items, D]``, E_sem; rows of items without an image, and so without a caption, are NaN.
    visuals
        float32 ``[n_items, D]``, E_vis; rows of items without an image are NaN.
    k
        How many to keep; 0 keeps all of them with equal weights, which is what the paper's ablation without retrieval and the
        methods it argues against do.

    Notes
    -----
    The paper does not say how the scores are normalised: here s' = s / sum(s), with negative similarities counted as 0. Ties go
    to the later item. A reference without a caption resembles nothing, so its history's latest k weigh the same.
    """
    seen = [row for row in history if np.isfinite(visuals[row]).all() and np.isfinite(semantics[row]).all()]
    if not seen:
        return Retrieved([], np.empty(0), None)
    if k == 0:
        rows, similarity = seen, np.ones(len(seen))
    else:
        scores = _cosine(semantics[seen], semantics[reference])  # eq. 3
        latest_first = np.arange(len(seen))[::-1]
        order = latest_first[np.argsort(-scores[::-1], kind="stable")][:k]
        rows, similarity = [seen[i] for i in order], scores[order].clip(min=0)
    total = similarity.sum()
    weights = similarity / total if total > 0 else np.full(len(rows), 1 / len(rows))
    return Retrieved(rows, weights, (weights @ visuals[rows].astype(np.float64)).astype(np.float32))  # eq. 5


def retrieve_preferred(
    candidates: list[int],
    scores: np.ndarray,
    reference: int,
    semantics: np.ndarray,
    visuals: np.ndarray,
    k: int,
    tau: float,
    kappa: float,
) -> Retrieved:
    """Return the k candidates of the largest reward / tau + kappa similarity, and their fusion by its softmax.

    Parameters
    ----------
    candidates
        Catalogue rows of items with an image and a caption; the reference is left out if it is among them.
    scores
        float64 ``[n]``, the recommender's scores of the candidates for the user, in any unit: such as `standardise` makes.
    reference
        Catalogue row of the reference item.
    semantics, visuals
        As `retrieve` takes them.
    k
        How many to keep, at least 1.
    tau
        Temperature, in the scores' unit.
    kappa
        Weight of the cosine similarity (eq. 3), which is 0 for a reference without a caption.

    Notes
    -----
    Ties go to the later candidate.
    """
    kept = [n for n, row in enumerate(candidates) if row != reference]
    if not kept:
        return Retrieved([], np.empty(0), None)
    rows = [candidates[n] for n in kept]
    logits = scores[kept] / tau + kappa * _cosine(semantics[rows], semantics[reference])
    order = np.argsort(-logits[::-1], kind="stable")[:k]
    chosen = (len(rows) - 1 - order).tolist()
    weights = np.exp(logits[chosen] - logits[chosen].max())
    weights /= weights.sum()
    rows = [rows[n] for n in chosen]
    return Retrieved(rows, weights, (weights @ visuals[rows].astype(np.float64)).astype(np.float32))


def standardise(scores: np.ndarray) -> np.ndarray:
    """Return each user's scores ``[B, N]`` less their mean and over their standard deviation; 0 where they are all alike."""
    centred = scores - scores.mean(1, keepdims=True)
    deviation = centred.std(1, keepdims=True)
    return np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 1e-12)


def _cosine(rows: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Cosine similarities float64 ``[n]``; 0 where the target is NaN."""
    if not np.isfinite(target).all():
        return np.zeros(len(rows))
    rows, target = rows.astype(np.float64), target.astype(np.float64)
    return rows @ target / (np.linalg.norm(rows, axis=1) * np.linalg.norm(target)).clip(min=1e-12)
