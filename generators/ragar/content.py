"""Net of content: what of a user's scores the items' texts do not explain.

A user may like items for what they are. No image changes that, as the item stays the item, but it ranks the catalogue, and what
comes first is then partly there for what it shows. What a ridge regression of the scores on the items' texts does not explain
(`generators.common.ridge`, eqs. 1-2) is what images can have to do with.
"""

from __future__ import annotations

import numpy as np

from generators.common.ridge import Ridge, best_strength, centred
from generators.common.texts import filled
from recgen.core.seeding import numpy_rng

_REGRESSED = 20_000
"""Items that the regression is fitted on, at most."""


class NetOfContent:
    """Takes from scores of some items what the items' texts explain.

    Parameters
    ----------
    texts
        float32 ``[N, E]``, the texts' raw embeddings; a text that is NaN or zeros says nothing.
    scores
        float64 ``[U, N]``, scores of some users, by which the regression's strength is found.
    run_seed
        Draws the items that the regression is fitted on, where there are more than it takes.
    """

    def __init__(self, texts: np.ndarray, scores: np.ndarray, run_seed: int) -> None:
        fitted = np.arange(len(texts))
        if len(fitted) > _REGRESSED:
            drawn = numpy_rng(run_seed, "ragar content").choice(fitted, size=_REGRESSED, replace=False)
            fitted = np.sort(drawn)
        self.fitted = fitted
        self.texts, _ = filled(texts)
        strength = best_strength(self.texts[fitted], centred(scores[:, fitted]))
        self.ridge = Ridge(self.texts[fitted], strength)

    def of(self, scores: np.ndarray, left_out: int) -> np.ndarray:
        """Return what texts leave of one user's scores ``[N]``, float64 ``[N]``, centred.

        Parameters
        ----------
        scores
            float64 ``[N]``.
        left_out
            The place of the item whose score changes nothing, and gets 0; -1 for none.
        """
        place = np.flatnonzero(self.fitted == left_out)
        column = np.array([place[0] if len(place) else -1])
        found = self.ridge.coefficients(scores[None, self.fitted].astype(np.float32), column)[0]
        rest = scores - self.texts @ found
        others = np.arange(len(rest)) != left_out
        rest[~others] = 0
        rest[others] -= rest.sum() / max(int(others.sum()), 1)
        return rest
