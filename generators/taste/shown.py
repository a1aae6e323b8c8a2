"""From scores of the catalogue to what is shown: words of style, and an image embedding.

Let r ``[N]`` be a user's scores net of content (the residuals of (1) on text embeddings). The words come from the ridge
regression (1) of r on the indicators of all tags, content's included: with b its coefficients, a style group's word is the phrase
of the greatest b, and its gain is that b less the group's mean over the catalogue. Words of content are never shown. The image
embedding is that of the k items of the greatest r,

    e = sum_i a_i f_i / sum_i a_i,    a_i = max(r_i, 0)                                                    (7)

and their plain mean where no r_i is positive. The requested item counts for neither (see `generators.taste.ridge`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from generators.taste.catalogue import Catalogue, Group
from generators.taste.settings import TEXT, WORDS


@dataclass(frozen=True)
class Word:
    """A word of style, and what it gains in logits: what everybody gains, and what this user gains beyond that."""

    group: str
    phrase: str
    everybody: float
    own: float

    @property
    def gain(self) -> float:
        """What the user gains."""
        return self.everybody + self.own

    def as_json(self) -> dict[str, Any]:
        """Return the fields, rounded to what can mean anything."""
        gains = {"everybody": round(self.everybody, 4), "own": round(self.own, 4)}
        return {"group": self.group, "phrase": self.phrase, **gains}


def best_words(
    coefficients: np.ndarray, everybody: np.ndarray, catalogue: Catalogue, groups: Sequence[Group]
) -> list[Word]:
    """Return one user's best word of each style group that gains anything, the greatest gain first.

    Parameters
    ----------
    coefficients, everybody
        float ``[V]``: of the user's scores, and of the mean of all users' scores.
    """
    shares = catalogue.indicators.mean(axis=0)
    found, start = [], 0
    for group in groups:
        part = slice(start, start + len(group.phrases))
        start = part.stop
        if group.style:
            gains, common = (
                values[part] - shares[part] @ values[part] for values in (coefficients, everybody)
            )
            best = int(gains.argmax())
            found.append(
                Word(group.name, group.phrases[best], float(common[best]), float(gains[best] - common[best]))
            )
    return sorted((word for word in found if word.gain > 0), key=lambda word: -word.gain)


def unnamed(words: Sequence[Word], text: str, groups: Sequence[Group]) -> list[Word]:
    """Return the words of groups that the item's own text does not name: a red dress stays red."""
    phrases = {group.name: group.phrases for group in groups}

    def named(group: str) -> bool:
        return any(
            re.search(rf"\b{re.escape(phrase)}\b", text, re.IGNORECASE) is not None
            for phrase in phrases[group]
        )

    return [word for word in words if not named(word.group)]


@dataclass(frozen=True)
class ShownImage:
    """An image embedding by (7) and where it comes from.

    Attributes
    ----------
    embedding
        float32 ``[D]``.
    items, weights
        Positions in the catalogue and their weights, which sum to 1.
    everybody, own
        The weighted mean of r, in logits: everybody's, and this user's beyond that.
    """

    embedding: np.ndarray
    items: np.ndarray
    weights: np.ndarray
    everybody: float
    own: float


def top_image(
    scores: np.ndarray, everybody: np.ndarray, images: np.ndarray, k: int, left_out: int
) -> ShownImage:
    """Return (7) of one user.

    Parameters
    ----------
    scores, everybody
        float ``[N]``: r, and the mean of all users' r.
    images
        float32 ``[N, D]``.
    k
        How many items.
    left_out
        The position of the requested item; -1 where it is not among those looked at.
    """
    best = np.argpartition(-scores, min(k, len(scores) - 1))[: k + 1]  # one more, for the one left out
    best = best[np.lexsort((best, -scores[best]))]
    best = best[best != left_out][:k]
    weights = np.maximum(scores[best].astype(np.float64), 0)
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(len(best), 1 / len(best))
    shared, total = float(weights @ everybody[best]), float(weights @ scores[best])
    embedding = (weights @ images[best].astype(np.float64)).astype(np.float32)
    return ShownImage(embedding, best, weights, shared, total - shared)


def prompt(template: str, text: str, words: Sequence[str], fits: Callable[[str], bool]) -> str:
    """Return the prompt of an item: its text alone without words of style, else `template` filled.

    A text that is too long for the text encoder loses words from its end, so that the style is still read.

    Parameters
    ----------
    fits
        Whether the text encoder reads a prompt to its end.
    """
    if not words:
        return text
    pieces = text.split()
    filled = template.replace(WORDS, ", ".join(words))
    for count in range(len(pieces), 0, -1):
        known = text if count == len(pieces) else " ".join(pieces[:count])
        if fits(filled.replace(TEXT, known)):
            return filled.replace(TEXT, known)
    return filled.replace(TEXT, text)
