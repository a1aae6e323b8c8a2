"""A real log of films with a known taste in posters laid over it: semi-synthetic data.

Users, films, encounters and ratings are those of a real data set. Each film gets a rendered poster: its motif follows from
the first genre, its style (colour, ground, pattern) and its factors are drawn at random, so that they say nothing about the
film. Each user gets a taste in posters from the simulator's model. A rating r is then made anew: the user likes the film with
probability

    sigmoid(intercept(user) + RATING_WEIGHT (r - the user's mean rating) + taste(user, the poster))

where the intercept keeps the user's expected number of likes at what it was. What users think of films is therefore the
log's; what they think of posters is known, and with it the true gain of any other poster of the same film.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from recgen.core.errors import UserError
from recgen.core.progress import show
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.atomic import read_atomic
from recgen.data.simulation.attributes import MOTIFS, SIZES, Attributes
from recgen.data.simulation.factors import Factors
from recgen.data.simulation.renderer import movie_attributes, render, seeded_factors
from recgen.data.simulation.simulator import DISLIKED, LIKED, Truth
from recgen.data.simulation.tastes import TastesIn, draw_factors, draw_tastes

RATING_WEIGHT = 1.0
"""Logits per star. The style's utility has a standard deviation of 1.75 over a user's posters, about that of 1.6 stars."""
_BISECTIONS = 50


def overlay(
    base: Path,
    out: Path,
    seed: int,
    like_threshold: float = 4.0,
    separator: str = "\t",
    tastes_in: TastesIn = "words",
) -> Truth:
    """Write the data set `out` made of the films and ratings of `base`.

    Parameters
    ----------
    base
        The folder of the atomic files ``<name>.inter`` (user_id, item_id, rating) and ``<name>.item`` (item_id and class, the
        film's genres), named after the folder.
    out
        The folder to write: ``<name>.inter``, ``<name>.item``, ``images/<item>.png`` and the truth in ``simulator/``.
    seed
        Seed of tastes, styles and likes; a user's and a film's depend on it and their own token only.
    like_threshold
        Ratings of `base` from here up count as likes when the number of a user's likes is kept.
    separator
        Separator of the atomic files' columns.
    tastes_in
        Where tastes in posters lie; in words alone, posters are drawn without factors of their own.

    Returns
    -------
    Truth
        `Truth.content` is zero: what users think of the films themselves is in the log, and not known.

    Raises
    ------
    UserError
        If a file or a column is missing, or a film that was rated is not in the ``.item`` file.
    """
    log = read_atomic(base / f"{base.name}.inter", separator, ["user_id", "item_id", "rating"])
    films = read_atomic(base / f"{base.name}.item", separator, ["item_id", "class"])
    truth = _truth(log["user_id"].unique().tolist(), films, seed, tastes_in)
    known = set(truth.item_ids)
    stranger = next((item for item in log["item_id"] if item not in known), None)
    if stranger is not None:
        raise UserError(
            str(base / f"{base.name}.inter"), found=f"item {stranger!r}", expected="an item of the .item file"
        )
    rating = _rate(truth, log, seed, like_threshold)
    out.mkdir(parents=True, exist_ok=True)
    columns = {"user_id:token": log["user_id"], "item_id:token": log["item_id"], "rating:float": rating}
    if "timestamp" in log:
        columns["timestamp:float"] = log["timestamp"]
    pd.DataFrame(columns).to_csv(out / f"{out.name}.inter", sep="\t", index=False)
    if separator == "\t":
        shutil.copyfile(base / f"{base.name}.item", out / f"{out.name}.item")
    else:
        text = (base / f"{base.name}.item").read_text(encoding="utf-8")
        (out / f"{out.name}.item").write_text(text.replace(separator, "\t"), encoding="utf-8")
    _draw_posters(truth, out / "images", seed)
    truth.save(out / "simulator")
    return truth


def _truth(user_ids: list[str], films: pd.DataFrame, seed: int, tastes_in: TastesIn) -> Truth:
    item_ids = films["item_id"].tolist()
    looks = np.stack(
        [_look(item, genres, seed) for item, genres in zip(item_ids, films["class"], strict=True)]
    )
    tastes = draw_tastes(user_ids, seed, tastes_in=tastes_in)
    factors = np.stack([_factors(item, seed, tastes_in) for item in item_ids])
    users = len(user_ids)
    content = np.zeros((users, len(MOTIFS)))
    return Truth(user_ids, item_ids, np.zeros(users), content, tastes.style, looks, tastes.factors, factors)


def _factors(item: str, seed: int, tastes_in: TastesIn) -> np.ndarray:
    if tastes_in == "words":
        return np.array(seeded_factors(_poster_seed(seed, item)))
    return np.array(draw_factors(numpy_rng(seed, "overlay factors", item=item)))


def _poster_seed(seed: int, item: str) -> int:
    return seed_for(seed, "overlay poster", item=item)


def _look(item: str, genres: str, seed: int) -> np.ndarray:
    """Return a film's attributes, int64 ``[4]``: the first genre's motif in a style drawn at random."""
    look = numpy_rng(seed, "overlay look", item=item).integers(SIZES)
    look[0] = movie_attributes(genres.split(), None, item).motif
    return look


def _rate(truth: Truth, log: pd.DataFrame, seed: int, like_threshold: float) -> np.ndarray:
    """Return the new ratings, `LIKED` or `DISLIKED`, float64 ``[n]``, and set the users' intercepts in `truth`."""
    users = log["user_id"].tolist()
    deviation = log["rating"] - log.groupby("user_id")["rating"].transform("mean")
    items = log["item_id"].tolist()
    taste = truth.utility(users, truth.attributes_of(items), truth.factors_of(items))
    logit = RATING_WEIGHT * deviation.to_numpy() + taste
    liked = np.zeros(len(log), dtype=bool)
    for row, (user, places) in enumerate(_places(users, truth.user_ids)):
        was = (log["rating"].to_numpy()[places] >= like_threshold).sum()
        truth.intercept[row] = _intercept(logit[places], float(was))
        rng = numpy_rng(seed, "overlay likes", user)
        liked[places] = rng.random(len(places)) < expit(logit[places] + truth.intercept[row])
    return np.where(liked, LIKED, DISLIKED)


def _places(users: Sequence[str], order: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """Return each user's rows of the log, in the log's order."""
    rows = pd.Series(np.arange(len(users))).groupby(np.asarray(users, dtype=object)).indices
    return [(user, np.asarray(rows[user])) for user in order]


def _intercept(logit: np.ndarray, likes: float) -> float:
    """Return the constant with which `logit` ``[n]`` expects `likes` likes; they are kept away from none and all."""
    wanted = float(np.clip(likes, 0.5, len(logit) - 0.5))
    low, high = -30.0, 30.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if expit(logit + middle).sum() > wanted else (middle, high)
    return (low + high) / 2


def _draw_posters(truth: Truth, folder: Path, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for row, item in enumerate(truth.item_ids):
        look = Attributes(*truth.item_attributes[row].tolist())
        factors = Factors(*truth.item_factors[row].tolist()) if truth.sees_factors else None
        render(look, _poster_seed(seed, item), factors).save(folder / f"{item}.png")
        show("posters drawn", row + 1, len(truth.item_ids))
