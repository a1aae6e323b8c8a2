"""Which items of a page a user clicks: click models of web search (Chuklin, Markov and de Rijke 2015).

A click takes an item that attracts and a place that is looked at. Both models here know how much an item attracts a user, a
probability, and differ in what is looked at:

- *position-based* (Richardson, Dominowska and Ragno 2007): place k is looked at with probability (1 / k) ** severity whatever is
  shown elsewhere, the form of Joachims, Swaminathan and Schnabel (2017). Any number of items can be clicked.
- *cascade* (Craswell, Zoeter, Taylor and Ramsey 2008): users look from the top down, click the first item that attracts them and
  leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class ClickModel(Protocol):
    """What users click of pages whose items attract them so much.

    `attraction` is float64 ``[pages, places]``, the probability that an item that is looked at is clicked, from the top down.
    """

    def draw(self, attraction: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Return bool ``[pages, places]``, the clicks; `uniform` ``[pages, places]`` is drawn from [0, 1)."""

    def expected(self, attraction: np.ndarray) -> np.ndarray:
        """Return float64 ``[pages, places]``, the probability of each click before anything is drawn."""


@dataclass(frozen=True)
class PositionBased:
    """The position-based model; a severity of 0 looks at every place.

    Examples
    --------
    >>> PositionBased(severity=1.0).expected(np.array([[0.5, 0.5, 0.9]])).round(3).tolist()
    [[0.5, 0.25, 0.3]]
    """

    severity: float = 1.0

    def draw(self, attraction: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Draw the clicks; see `ClickModel.draw`."""
        return uniform < self.expected(attraction)

    def expected(self, attraction: np.ndarray) -> np.ndarray:
        """Return the clicks' probabilities; see `ClickModel.expected`."""
        places = np.arange(1, attraction.shape[1] + 1, dtype=np.float64)
        return attraction * places**-self.severity


@dataclass(frozen=True)
class Cascade:
    """The cascade model: at most one click a page.

    Examples
    --------
    >>> Cascade().expected(np.array([[0.5, 0.5, 0.9]])).round(3).tolist()
    [[0.5, 0.25, 0.225]]
    """

    def draw(self, attraction: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Draw the clicks; see `ClickModel.draw`."""
        attracted = uniform < attraction
        return attracted & (np.cumsum(attracted, axis=1) == 1)

    def expected(self, attraction: np.ndarray) -> np.ndarray:
        """Return the clicks' probabilities; see `ClickModel.expected`."""
        left = np.cumprod(1 - attraction, axis=1)
        arrived = np.concatenate([np.ones((len(attraction), 1)), left[:, :-1]], axis=1)
        return attraction * arrived
