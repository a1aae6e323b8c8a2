"""What simulated users like: contents, styles that have words, and factors that have none.

Tastes are low-rank: a user's is a point in `TASTE_DIMENSIONS` normal dimensions around a point that all users share, which
loadings turn into likings for single motifs, colours, grounds and patterns, and into a weight for every factor. The utility of
an image's factors z in [-1, 1] is graded,

    sum over factors f of  weight(user, f) z_f - 1/2 FACTOR_CURVATURE z_f^2

so that a user has a favourite degree of each, weight / FACTOR_CURVATURE: for strong likings it lies beyond what can be drawn, for
weak ones within, and then more of the same is worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from recgen.core.seeding import numpy_rng
from recgen.data.simulation.attributes import SIZES
from recgen.data.simulation.factors import FACTORS, Factors

TASTE_DIMENSIONS = 6
SHARED_TASTE = 0.4
"""Standard deviation of the shared point's coordinates; a user's deviate from it with standard deviation 1."""
CONTENT_SCALE, STYLE_SCALES = 0.8, (1.2, 1.0, 0.8)
"""Standard deviations over users of the utility of one motif, and of one colour, one ground and one pattern."""
FACTOR_SCALE, FACTOR_CURVATURE = 1.1, 0.6
"""Standard deviation over users of the weight of one factor, and by how much the pull falls from the middle to an end."""

TastesIn = Literal["words", "factors", "both"]
"""Where users' tastes in images lie: in what the vocabulary names, in what nothing names, or half of them in each."""
_SHARES: dict[TastesIn, tuple[float, float]] = {"words": (1, 0), "factors": (0, 1), "both": (0.5, 0.5)}


class Tastes(NamedTuple):
    """Likings of users.

    Attributes
    ----------
    content
        float64 ``[users, motifs]``.
    style
        float64 ``[users, tastes, colours + grounds + patterns]``.
    factors
        float64 ``[users, tastes, factors]``: the weights; zero where tastes are in words.
    """

    content: np.ndarray
    style: np.ndarray
    factors: np.ndarray


def draw_tastes(
    user_ids: Sequence[str],
    seed: int,
    tastes_per_user: int = 1,
    tastes_in: TastesIn = "words",
    interaction: float = 1.0,
) -> Tastes:
    """Draw the tastes of some users.

    Parameters
    ----------
    user_ids
        Tokens; a user's taste depends on `seed` and their own token only.
    seed
        Seed of everything.
    tastes_per_user
        Tastes in images per user: one for each class of motifs.
    tastes_in
        Where tastes lie. The variance of utility from words and from factors is shared between them.
    interaction
        Share of the variance of a taste in images that is the class's own; the rest is the same for all classes. 0 means that
        taste does not depend on content, 1 that nothing is known of one class from another.
    """
    points = np.stack(
        [numpy_rng(seed, "simulator taste", user).standard_normal(TASTE_DIMENSIONS) for user in user_ids]
    )
    points += SHARED_TASTE * numpy_rng(seed, "simulator shared taste").standard_normal(TASTE_DIMENSIONS)
    in_words, in_factors = _SHARES[tastes_in]
    scales = np.repeat(STYLE_SCALES, SIZES[1:])
    rng = numpy_rng(seed, "simulator loadings")
    content = _unit_columns(rng.standard_normal((TASTE_DIMENSIONS, SIZES[0]))) * CONTENT_SCALE
    words = _loadings(rng, len(scales), tastes_per_user, interaction, seed) * scales * in_words**0.5
    unnamed = numpy_rng(seed, "simulator factor loadings")
    factors = (
        _loadings(unnamed, len(FACTORS), tastes_per_user, interaction, seed) * FACTOR_SCALE * in_factors**0.5
    )
    return Tastes(
        points @ content, np.einsum("ud,kdv->ukv", points, words), np.einsum("ud,kdf->ukf", points, factors)
    )


def draw_factors(rng: np.random.Generator) -> Factors:
    """Draw the factors of an item's image, each uniformly from [-1, 1]."""
    return Factors(*rng.uniform(-1, 1, len(FACTORS)).tolist())


def graded(weights: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return the utility of factors ``[n, F]`` under weights ``[n, F]``, float64 ``[n]``; see the module."""
    return (weights * factors - FACTOR_CURVATURE / 2 * np.square(factors)).sum(axis=-1)


def favourite(weights: np.ndarray) -> np.ndarray:
    """Return the factors that `graded` likes best, each in [-1, 1], in the shape of `weights`."""
    return np.clip(weights / FACTOR_CURVATURE, -1, 1)


def _loadings(
    rng: np.random.Generator, columns: int, tastes: int, interaction: float, seed: int
) -> np.ndarray:
    """Return loadings ``[tastes, dimensions, columns]`` with columns of length 1."""
    own = np.stack([_unit_columns(rng.standard_normal((TASTE_DIMENSIONS, columns))) for _ in range(tastes)])
    if tastes == 1 or interaction == 1:
        return own
    shared = numpy_rng(seed, f"simulator loadings of all classes, {columns}")
    common = _unit_columns(shared.standard_normal((TASTE_DIMENSIONS, columns)))
    mixed = [np.sqrt(1 - interaction) * common + np.sqrt(interaction) * each for each in own]
    return np.stack([_unit_columns(each) for each in mixed])


def _unit_columns(matrix: np.ndarray) -> np.ndarray:
    """Scale columns to length 1, so that standard normal tastes give likings of variance 1."""
    return matrix / np.linalg.norm(matrix, axis=0)
