"""Answers of a judge that is shown two images in both orders: who wins, and how far the place decides.

A judge that leans to a place says so in both orders, which makes a tie and no winner (Zheng et al. 2023, "Judging LLM-as-a-judge
with MT-Bench and Chatbot Arena", section 3.4).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from recgen.metrics.personalisation import FloatArray

_PLACES = ((r"\b(1|first)\b", r"\b(2|second)\b"), (r"\bone\b", r"\btwo\b"))
"""What names the first place and the second; words for numbers count where neither figures nor ordinals do ("the second one")."""


def place_named(answer: str) -> float:
    """Return 1 for an answer that names the first place, 0 for the second, NaN for one that names neither or both.

    >>> [place_named(answer) for answer in ("1", "Image 2.", "The second one", "both 1 and 2", "")]
    [1.0, 0.0, 0.0, nan, nan]
    """
    for places in _PLACES:
        first, second = (re.search(place, answer, re.IGNORECASE) is not None for place in places)
        if first or second:
            return float(first) if first != second else float("nan")
    return float("nan")


def first_places(answers: Sequence[str]) -> FloatArray:
    """Return `place_named` of each answer, float64 ``[n]``."""
    return np.array([place_named(answer) for answer in answers], dtype=np.float64)


def preference(first_when_first: FloatArray, first_when_second: FloatArray) -> FloatArray:
    """Whether a judge prefers an image over the other, whatever its place.

    Parameters
    ----------
    first_when_first
        float ``[n]``, 1 where the answer names the first place and 0 where the second, the image standing first; NaN: not read.
    first_when_second
        The same, the image standing second.

    Returns
    -------
    float64 ``[n]``: 1 where both answers are for the image, 0 where both are against it, 0.5 where they contradict each other,
    and NaN where one could not be read.

    Examples
    --------
    >>> preference(np.array([1, 1, 0, np.nan]), np.array([0, 1, 1, 0])).tolist()
    [1.0, 0.5, 0.0, nan]
    """
    return np.asarray((first_when_first + 1 - first_when_second) / 2, dtype=np.float64)
