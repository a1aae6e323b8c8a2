"""From scores of the catalogue to what is shown: words of style, and an image embedding.

Let r ``[N]`` be a user's scores net of content (the residuals of (1) on text embeddings). The words come from the ridge
regression (1) of r on the indicators of all tags, content's included: with b its coefficients, a style group's word is the phrase
of the greatest b, and its gain is that b less the group's mean over the catalogue. A gain below three standard errors,

    se = sigma sqrt((1 - q) / (N q)),        sigma^2 = |r - Xb|^2 / (N - V)                               (8)

with q the share of the N items that have the word and V the number of words, may be chance and is not shown: where a user's taste
lies in what no word names, words only stand in the way of the image. Words of content are never shown.

The image embedding is the content of the requested item's text in the style of the k items of the greatest r. With c(x) what the
ridge regression (1) of the catalogue's image embeddings f on the embeddings x of their texts predicts,

    u = sum_i a_i (f_i - c(x_i)) / sum_i a_i,    a_i = max(r_i, 0),
    e = c(x) + s u / |u|,                        s = the mean over the catalogue of |f_j - c(x_j)|          (7)

and the a_i are alike where no r_i is positive. Without c the k items' contents would be drawn into the requested one. The mean of
k images is nearer to the middle of all than any of them, hence s: u is brought to the length that an image of the catalogue has.
The requested item counts neither for r nor among the k (see `generators.common.ridge`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from generators.common.ridge import Ridge, best_strength
from generators.common.texts import filled
from generators.taste.catalogue import Catalogue, Group
from generators.taste.settings import TEXT, WORDS

_ERRORS = 3
"""Standard errors that a word has to gain."""


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
    coefficients: np.ndarray,
    everybody: np.ndarray,
    sigma: float,
    catalogue: Catalogue,
    groups: Sequence[Group],
) -> list[Word]:
    """Return one user's best word of each style group that gains more than chance, the greatest gain first.

    Parameters
    ----------
    coefficients, everybody
        float ``[V]``: of the user's scores, and of the mean of all users' scores.
    sigma
        That of (8).
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
            share = float(shares[part][best])
            error = sigma * math.sqrt((1 - share) / max(len(catalogue.rows) * share, 1))
            word = Word(
                group.name, group.phrases[best], float(common[best]), float(gains[best] - common[best])
            )
            if word.gain > _ERRORS * error:
                found.append(word)
    return sorted(found, key=lambda word: -word.gain)


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
class Looks:
    """A catalogue's image embeddings, parted by the ridge regression of (7) on the items' texts.

    Attributes
    ----------
    mean, text_mean
        float32 ``[D]`` and ``[E]``, of images and of texts.
    coefficients
        float32 ``[E, D]``.
    styles
        float32 ``[N, D]``, f - c(x).
    length
        s of (7).
    """

    mean: np.ndarray
    text_mean: np.ndarray
    coefficients: np.ndarray
    styles: np.ndarray
    length: float

    @classmethod
    def of(cls, images: np.ndarray, texts: np.ndarray) -> Looks:
        """Part the images ``[N, D]`` of items with texts ``[N, E]``, both float32; a text that is zeros says nothing."""
        mean, (told, text_mean) = images.mean(axis=0), filled(texts)
        rows = np.ascontiguousarray((images - mean).T)
        ridge = Ridge(told, best_strength(told, rows))
        coefficients = ridge.coefficients(rows, np.full(len(rows), -1)).T
        styles = images - mean - (told - text_mean) @ coefficients
        return cls(mean, text_mean, coefficients, styles, float(np.linalg.norm(styles, axis=1).mean()))

    def content(self, text: np.ndarray) -> np.ndarray:
        """Return c(x) of one item's text embedding ``[E]``, float32 ``[D]``; the mean where the text says nothing."""
        if not np.nan_to_num(text).any():
            return self.mean
        return self.mean + (text - self.text_mean) @ self.coefficients


@dataclass(frozen=True)
class ShownImage:
    """The style of (7) and where it comes from.

    Attributes
    ----------
    style
        s u / |u|, float32 ``[D]``.
    items, weights
        Positions in the catalogue and their weights, which sum to 1.
    everybody, own
        The weighted mean of r, in logits: everybody's, and this user's beyond that.
    """

    style: np.ndarray
    items: np.ndarray
    weights: np.ndarray
    everybody: float
    own: float


@dataclass(frozen=True)
class Answer:
    """What is known about one request before anything is drawn.

    Attributes
    ----------
    words
        The words of style that gain more than chance, the greatest gain first.
    image
        The style as an image embedding's part, and where it comes from.
    believed
        By source, the standard deviation over the catalogue of what it contributes to the user's scores, in logits.
    encounters
        How many of the user's encounters are known.
    """

    words: list[Word]
    image: ShownImage
    believed: dict[str, float]
    encounters: int


def top_image(scores: np.ndarray, everybody: np.ndarray, looks: Looks, k: int, left_out: int) -> ShownImage:
    """Return the style of (7) for one user.

    Parameters
    ----------
    scores, everybody
        float ``[N]``: r, and the mean of all users' r.
    looks
        The catalogue's images.
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
    mean = weights @ looks.styles[best].astype(np.float64)
    style = mean * (looks.length / max(float(np.linalg.norm(mean)), 1e-12))
    return ShownImage(style.astype(np.float32), best, weights, shared, total - shared)


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
