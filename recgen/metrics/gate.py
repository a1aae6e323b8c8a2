"""May a creative be shown? What is asked of it, and how right the answers are where the truth is known.

A creative is accepted if it is *sound* (a file that opens, of more than one colour), *safe*, *keeps the item* and is *predicted
to help*. Keeping is asked of embeddings: of the content that a tagger sees, and of where the item's own text, or image, stands
when the catalogue is searched with the creative. Help is asked pessimistically: the smallest of several models' gains counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from recgen.config.gate import Gate
from recgen.metrics.personalisation import FloatArray
from recgen.metrics.registry import SHARE
from recgen.metrics.semantics import retrieval_rank
from recgen.metrics.statistics import Estimate, bootstrap_mean

ACCEPTED = "accepted"
REASONS = ("unsound", "unsafe", "attributes", "text", "image", "no gain")
"""Why a creative is refused; of several reasons the first counts."""


def overlap(first: FloatArray, second: FloatArray) -> FloatArray:
    """How far two distributions agree: the sum of the smaller probabilities, 1 less the total variation distance.

    Parameters
    ----------
    first, second
        ``[n, k]`` probabilities; a row of NaN is one that nobody knows.

    Returns
    -------
    float64 ``[n]``, from 0 to 1; NaN where either is not known.

    Examples
    --------
    >>> overlap(np.array([[0.7, 0.3], [1.0, 0.0]]), np.array([[0.2, 0.8], [1.0, 0.0]])).round(6).tolist()
    [0.5, 1.0]
    """
    return np.minimum(np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)).sum(axis=1)


def place(creatives: FloatArray, catalogue: FloatArray, rows: NDArray[np.int64]) -> FloatArray:
    """Share of the catalogue that is nearer to a creative than its own item is, by cosine; NaN for an item that is not known.

    Parameters
    ----------
    creatives
        ``[n, D]`` image embeddings.
    catalogue
        ``[m, D]`` embeddings of the items' texts or images; rows of NaN are unknown.
    rows
        ``[n]`` the row of each creative's item.

    Examples
    --------
    >>> texts = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> place(np.array([[1.0, 0.1], [1.0, 0.1]]), texts, np.array([0, 1])).tolist()
    [0.0, 1.0]
    """
    others = max(int(np.isfinite(catalogue).all(axis=1).sum()) - 1, 1)
    return retrieval_rank(creatives, catalogue, rows) / others


def pessimistic(gains: list[FloatArray]) -> FloatArray:
    """Return the smallest gain that any model predicts, float64 ``[n]``; models' gains are ``[n]`` each, one at least."""
    return np.min(np.stack([np.asarray(gain, dtype=np.float64) for gain in gains]), axis=0)


def decide(evidence: pd.DataFrame, gate: Gate) -> pd.Series:
    """Return for each creative "accepted" or the first of `REASONS` for which it is refused.

    Parameters
    ----------
    evidence
        Columns ``sound`` (bool), ``unsafe``, ``attributes``, ``text``, ``image`` and ``gain`` (float). NaN is what could not be
        asked, such as the likeness to an image that an item has not got: it refuses nobody, but for ``gain``.
    gate
        The floors.

    Examples
    --------
    >>> rows = [(True, 0.1, 0.9, 0.02, np.nan, 0.3), (True, 0.1, 0.2, 0.02, np.nan, 0.3), (True, 0.1, 0.9, 0.02, np.nan, -0.1)]
    >>> evidence = pd.DataFrame(rows, columns=["sound", "unsafe", "attributes", "text", "image", "gain"])
    >>> decide(evidence, Gate()).tolist()
    ['accepted', 'attributes', 'no gain']
    """
    failed = {
        "unsound": ~evidence["sound"].astype(bool),
        "unsafe": evidence["unsafe"] > gate.max_unsafe,
        "attributes": _below(evidence["attributes"], gate.attributes),
        "text": _above(evidence["text"], gate.text),
        "image": _above(evidence["image"], gate.image),
        "no gain": ~(evidence["gain"] > gate.min_gain) if gate.models else _nobody(evidence),
    }
    verdict = pd.Series(ACCEPTED, index=evidence.index)
    for reason in reversed(REASONS):
        verdict[failed[reason]] = reason
    return verdict


def _below(values: pd.Series, floor: float | None) -> pd.Series:
    return _nobody(values) if floor is None else values < floor


def _above(values: pd.Series, most: float | None) -> pd.Series:
    return _nobody(values) if most is None else values > most


def _nobody(rows: pd.Series | pd.DataFrame) -> pd.Series:
    return pd.Series(False, index=rows.index)


def summary(verdicts: pd.Series, users: ArrayLike, truth: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Return how many creatives are accepted, why others are not, and, in a simulation, how right that is.

    Parameters
    ----------
    verdicts
        ``[n]``, of `decide`.
    users
        ``[n]``; intervals are over users.
    truth
        As many rows, with the columns ``content_preservation`` (0 or 1) and ``true_utility_gain`` in a simulation; else without.
    seed
        Seed of the bootstrap.

    Returns
    -------
    dict
        ``accepted`` (an estimate of the share), ``refused`` (number by reason), and with a truth ``keeps`` and ``helps``, each
        with the share among ``all`` creatives, ``precision`` (among the accepted ones) and ``recall`` (share of those that do
        that are accepted), and ``true_gain``, the mean for ``all`` shown, for the ``accepted``, and ``shown``: accepted creatives
        and in place of the others the items' own images, which gain nothing.
    """
    accepted = (verdicts == ACCEPTED).to_numpy()
    who = np.asarray(users)

    def mean(values: Any, rows: NDArray[np.bool_] | None = None) -> Estimate:
        chosen = np.ones(len(who), dtype=bool) if rows is None else rows
        return bootstrap_mean(np.asarray(values, dtype=np.float64)[chosen], who[chosen], seed)

    def share(values: Any, rows: NDArray[np.bool_] | None = None) -> dict[str, Any]:
        return mean(values, rows).within(SHARE).as_json()

    refused = verdicts[~accepted].value_counts()
    found: dict[str, Any] = {
        "accepted": share(accepted),
        "refused": {reason: int(refused[reason]) for reason in REASONS if reason in refused},
    }
    if "true_utility_gain" not in truth:
        return found
    gain = truth["true_utility_gain"].to_numpy(dtype=np.float64)
    for name, does in (("keeps", truth["content_preservation"].to_numpy() == 1), ("helps", gain > 0)):
        found[name] = {
            "all": share(does),
            "precision": share(does, accepted),
            "recall": share(accepted, does),
        }
    shown = np.where(accepted, gain, 0.0)
    means = {"all": mean(gain), "accepted": mean(gain, accepted), "shown": mean(shown)}
    found["true_gain"] = {name: each.as_json() for name, each in means.items()}
    return found
