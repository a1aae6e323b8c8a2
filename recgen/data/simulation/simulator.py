"""A catalogue and a log whose truth is known: users with a taste for rendered pictures, and the clicks it causes.

An item's content (its motif) is fixed and named by its text; its style (colour, ground, pattern) shows only in its image.
A user meets items at random and likes one with probability sigmoid(utility); the utility of an image is

    intercept(user) + content(user, motif) + sum over colour, ground, pattern of style(user, class of motif, attribute)

Tastes are low-rank: a user's is a point in `TASTE_DIMENSIONS` normal dimensions around a point that all users share, which
loadings turn into likings for single colours, grounds, patterns and motifs. The intercept makes a user like about `LIKE_RATE`
of all possible images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file
from scipy.special import expit
from scipy.stats import rankdata

from recgen.core.errors import UserError
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.simulation.attributes import MOTIFS, SIZES, Attributes
from recgen.data.simulation.renderer import render

TASTE_DIMENSIONS = 6
SHARED_TASTE = 0.4
"""Standard deviation of the shared point's coordinates; a user's deviate from it with standard deviation 1."""
CONTENT_SCALE, STYLE_SCALES = 0.8, (1.2, 1.0, 0.8)
"""Standard deviations over users of the utility of one motif, and of one colour, one ground and one pattern."""
LIKE_RATE, LIKE_RATE_SPREAD = 0.35, 0.05
"""Mean and standard deviation over users of the share of all possible images a user likes."""
LIKED, DISLIKED = 5.0, 1.0
FIRST_TIMESTAMP, SECONDS_BETWEEN = 1_600_000_000, 3_600

_CALIBRATION_IMAGES = 1_024
_TITLES = (
    ("lost", "great", "secret", "last", "wild", "good", "old", "little", "first", "second"),
    (
        "city",
        "river",
        "house",
        "garden",
        "island",
        "summer",
        "winter",
        "letter",
        "bridge",
        "train",
        "game",
        "dance",
        "story",
    ),
)


@dataclass(frozen=True)
class Truth:
    """The taste behind a simulated data set. Only evaluation may read it.

    Attributes
    ----------
    user_ids, item_ids
        Tokens, in the order of the rows below.
    intercept
        float64 ``[users]``.
    content
        float64 ``[users, motifs]``.
    style
        float64 ``[users, tastes, colours + grounds + patterns]``; a motif is of class ``motif % tastes``.
    item_attributes
        int64 ``[items, 4]``: what each item's own image shows.
    """

    user_ids: list[str]
    item_ids: list[str]
    intercept: np.ndarray
    content: np.ndarray
    style: np.ndarray
    item_attributes: np.ndarray

    def utility(self, users: Sequence[str], attributes: np.ndarray) -> np.ndarray:
        """Return the logit of liking, float64 ``[n]``, of user ``users[i]`` for an image of ``attributes[i]`` (int ``[n, 4]``).

        Raises
        ------
        UserError
            If a user is not of this simulation.
        """
        rows = self._rows(self._user_rows(), users, "user")
        attributes = np.asarray(attributes).reshape(-1, 4)
        motif = attributes[:, 0]
        taste = motif % self.style.shape[1]
        total = self.intercept[rows] + self.content[rows, motif]
        for start, column in zip(_style_starts(), (1, 2, 3), strict=True):
            total = total + self.style[rows, taste, start + attributes[:, column]]
        return total

    def probability(self, users: Sequence[str], attributes: np.ndarray) -> np.ndarray:
        """Return the probability of liking, float64 ``[n]``; arguments as for `utility`."""
        return expit(self.utility(users, attributes))

    def attributes_of(self, items: Sequence[str]) -> np.ndarray:
        """Return what the items' own images show, int64 ``[n, 4]``."""
        index = {token: row for row, token in enumerate(self.item_ids)}
        return self.item_attributes[self._rows(index, items, "item")]

    def save(self, folder: Path) -> None:
        """Write ``truth.safetensors`` and ``truth.json`` to `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self, name) for name in ("intercept", "content", "style", "item_attributes")}
        save_file(arrays, folder / "truth.safetensors")
        ids = {"user_ids": self.user_ids, "item_ids": self.item_ids}
        (folder / "truth.json").write_text(json.dumps(ids), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Truth:
        """Read what `save` wrote; `folder` is the ``simulator`` folder of a simulated data set.

        Raises
        ------
        UserError
            If `folder` holds no simulated truth.
        """
        if not (folder / "truth.safetensors").exists():
            raise UserError(
                str(folder), found="no truth.safetensors", expected="the simulator folder of a simulated data set",
                todo="Make one with `recgen data simulate`.",
            )  # fmt: skip
        ids = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        arrays: dict[str, Any] = load_file(folder / "truth.safetensors")
        return cls(**ids, **arrays)

    def _user_rows(self) -> dict[str, int]:
        return {token: row for row, token in enumerate(self.user_ids)}

    @staticmethod
    def _rows(index: dict[str, int], tokens: Sequence[str], what: str) -> np.ndarray:
        missing = next((token for token in tokens if token not in index), None)
        if missing is not None:
            raise UserError(
                f"{what} {missing!r}", found="no such token in the simulation", expected=f"a simulated {what}"
            )
        return np.array([index[token] for token in tokens], dtype=np.int64)


def true_auc(truth: Truth, users: Sequence[str], attributes: np.ndarray, likes: np.ndarray) -> float:
    """Return the AUC of the true probability for `likes` (bool ``[n]``): what a perfect verifier would reach, or NaN.

    The area under the ROC curve over all pairs of a liked and a disliked image, ties counted half.
    """
    likes = np.asarray(likes, dtype=bool)
    positives, negatives = int(likes.sum()), int((~likes).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(truth.utility(users, attributes))
    return float((ranks[likes].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def simulate(
    out: Path, users: int, items: int, seed: int, interactions_per_user: int = 100, tastes_per_user: int = 1
) -> Truth:
    """Write a simulated data set to `out` as RecBole atomic files named after the folder.

    Parameters
    ----------
    out
        The folder: ``<name>.inter``, ``.item``, ``.user``, ``images/<item>.png`` and ``simulator/``.
    users, items
        How many of each; a user's taste and an item's look depend on `seed` and their own token only.
    seed
        Seed of everything.
    interactions_per_user
        Different items each user meets, at random (at most `items`).
    tastes_per_user
        Style tastes per user: one for each class of motifs.

    Returns
    -------
    Truth
        Also saved to ``out/simulator``.

    Raises
    ------
    UserError
        If a number is not positive or more interactions than items are asked for.
    """
    _check(users, items, interactions_per_user, tastes_per_user)
    truth = draw_truth(users, items, seed, tastes_per_user)
    (out / "images").mkdir(parents=True, exist_ok=True)
    for item, attributes in zip(truth.item_ids, truth.item_attributes, strict=True):
        render(Attributes(*attributes.tolist()), seed_for(seed, "simulator picture", "", item)).save(
            out / f"images/{item}.png"
        )
    _write_atomic(draw_interactions(truth, seed, interactions_per_user), out, "inter")
    texts = [
        item_text(seed, item, motif)
        for item, motif in zip(truth.item_ids, truth.item_attributes[:, 0], strict=True)
    ]
    _write_atomic(pd.DataFrame({"item_id:token": truth.item_ids, "title:token_seq": texts}), out, "item")
    _write_atomic(pd.DataFrame({"user_id:token": truth.user_ids}), out, "user")
    truth.save(out / "simulator")
    return truth


def draw_truth(users: int, items: int, seed: int, tastes_per_user: int = 1) -> Truth:
    """Draw tastes and looks without writing anything; see `simulate`."""
    user_ids = [f"u{n}" for n in range(1, users + 1)]
    item_ids = [f"i{n}" for n in range(1, items + 1)]
    content, style = draw_tastes(user_ids, seed, tastes_per_user)
    looks = [numpy_rng(seed, "simulator look", "", item).integers(SIZES) for item in item_ids]
    truth = Truth(user_ids, item_ids, np.zeros(users), content, style, np.stack(looks))
    truth.intercept[:] = _intercepts(truth, seed)
    return truth


def draw_tastes(
    user_ids: Sequence[str], seed: int, tastes_per_user: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return users' likings of contents, float64 ``[users, motifs]``, and of styles, as in `Truth.style`."""
    content_loadings, style_loadings = _loadings(seed, tastes_per_user)
    tastes = np.stack(
        [numpy_rng(seed, "simulator taste", user).standard_normal(TASTE_DIMENSIONS) for user in user_ids]
    )
    tastes += SHARED_TASTE * numpy_rng(seed, "simulator shared taste").standard_normal(TASTE_DIMENSIONS)
    return tastes @ content_loadings, np.einsum("ud,kdv->ukv", tastes, style_loadings)


def draw_interactions(truth: Truth, seed: int, per_user: int) -> pd.DataFrame:
    """Draw `per_user` encounters of every user, as the columns of an ``.inter`` file, each user's in order of time."""
    frames = []
    for user in truth.user_ids:
        rng = numpy_rng(seed, "simulator encounters", user)
        met = rng.choice(len(truth.item_ids), size=per_user, replace=False)
        probability = truth.probability([user] * per_user, truth.item_attributes[met])
        likes = rng.random(per_user) < probability
        times = (
            FIRST_TIMESTAMP
            + SECONDS_BETWEEN * np.arange(per_user)
            + rng.integers(SECONDS_BETWEEN, size=per_user)
        )
        frames.append(
            pd.DataFrame(
                {
                    "user_id:token": user,
                    "item_id:token": [truth.item_ids[row] for row in met],
                    "rating:float": np.where(likes, LIKED, DISLIKED),
                    "timestamp:float": times,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def item_text(seed: int, item: str, motif: int) -> str:
    """Return an item's text: a title, then the content, and no word of any style."""
    rng = numpy_rng(seed, "simulator text", "", item)
    title = " ".join(str(rng.choice(words)) for words in _TITLES)
    return f"The {title.title()}. a {MOTIFS[motif]}"


def _style_starts() -> tuple[int, int, int]:
    """First column of colour, ground and pattern in `Truth.style`."""
    return 0, SIZES[1], SIZES[1] + SIZES[2]


def _loadings(seed: int, tastes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the loadings of content ``[dimensions, motifs]`` and of style ``[tastes, dimensions, style words]``."""
    rng = numpy_rng(seed, "simulator loadings")
    content = _unit_columns(rng.standard_normal((TASTE_DIMENSIONS, SIZES[0]))) * CONTENT_SCALE
    scales = np.repeat(STYLE_SCALES, SIZES[1:])
    style = [
        _unit_columns(rng.standard_normal((TASTE_DIMENSIONS, len(scales)))) * scales for _ in range(tastes)
    ]
    return content, np.stack(style)


def _unit_columns(matrix: np.ndarray) -> np.ndarray:
    """Scale columns to length 1, so that standard normal tastes give likings of variance 1."""
    return matrix / np.linalg.norm(matrix, axis=0)


def _intercepts(truth: Truth, seed: int) -> np.ndarray:
    """Solve each user's intercept by bisection so that they like their own target share of random images."""
    images = numpy_rng(seed, "simulator calibration").integers(SIZES, size=(_CALIBRATION_IMAGES, 4))
    logits = np.stack([truth.utility([user] * len(images), images) for user in truth.user_ids])
    draws = [numpy_rng(seed, "simulator like rate", user).standard_normal() for user in truth.user_ids]
    target = (LIKE_RATE + LIKE_RATE_SPREAD * np.array(draws)).clip(0.1, 0.9)
    low, high = np.full(len(target), -20.0), np.full(len(target), 20.0)
    for _ in range(40):
        middle = (low + high) / 2
        too_high = expit(logits + middle[:, None]).mean(axis=1) > target
        low, high = np.where(too_high, low, middle), np.where(too_high, middle, high)
    return (low + high) / 2


def _write_atomic(table: pd.DataFrame, out: Path, suffix: str) -> None:
    table.to_csv(out / f"{out.resolve().name}.{suffix}", sep="\t", index=False)


def _check(users: int, items: int, interactions_per_user: int, tastes_per_user: int) -> None:
    numbers = {
        "users": users,
        "items": items,
        "interactions_per_user": interactions_per_user,
        "tastes_per_user": tastes_per_user,
    }
    for name, value in numbers.items():
        if value < 1:
            raise UserError(f"simulate: {name}", found=str(value), expected="a positive whole number")
    if interactions_per_user > items:
        raise UserError(
            "simulate: interactions_per_user", found=f"{interactions_per_user} of {items} items",
            expected="at most the number of items", todo="Ask for more items or fewer interactions.",
        )  # fmt: skip
