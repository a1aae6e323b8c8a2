"""A catalogue and a log whose truth is known: users with a taste for rendered images, and the clicks it causes.

An item's content (its motif) is fixed and named by its text; its style (colour, ground, pattern) shows only in its image, and
so do its factors (`recgen.data.simulation.factors`), for which nothing has a word. A user meets items at random and likes one
with probability sigmoid(utility); the utility of an image is

    intercept(user) + content(user, motif) + sum over colour, ground, pattern of style(user, class of motif, attribute)
                    + graded(factors(user, class of motif), the image's factors)

with tastes as in `recgen.data.simulation.tastes`. The intercept makes a user like about `World.like_rate` of all possible images.
Where tastes are in words the last term is zero and images are drawn without factors of their own.
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

from recgen.core.errors import UserError
from recgen.core.progress import show
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.simulation.attributes import MOTIFS, SIZES, Attributes
from recgen.data.simulation.factors import FACTORS, NEUTRAL, Factors
from recgen.data.simulation.renderer import render, seeded_factors
from recgen.data.simulation.tastes import TastesIn, draw_factors, draw_tastes, graded
from recgen.metrics.auc import auc

LIKE_RATE, LIKE_RATE_SPREAD = 0.35, 0.05
"""Mean and standard deviation over users of the share of all possible images a user likes, where a world says no other mean."""
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
    factors
        float64 ``[users, tastes, 7]``: the weights of the factors; zero where tastes are in words.
    item_factors
        float64 ``[items, 7]``: the factors of each item's own image.
    """

    user_ids: list[str]
    item_ids: list[str]
    intercept: np.ndarray
    content: np.ndarray
    style: np.ndarray
    item_attributes: np.ndarray
    factors: np.ndarray
    item_factors: np.ndarray

    @property
    def sees_factors(self) -> bool:
        """Whether utility depends on factors; else images were drawn without any of their own."""
        return bool(self.factors.any())

    def utility(
        self, users: Sequence[str], attributes: np.ndarray, factors: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the logit of liking, float64 ``[n]``, of user ``users[i]`` for the image ``i``.

        Parameters
        ----------
        users
            Tokens.
        attributes
            int ``[n, 4]``: what the images show.
        factors
            float ``[n, 7]``: their factors. May be left out only where tastes are in words.

        Raises
        ------
        UserError
            If a user is not of this simulation.
        ValueError
            Without `factors` where utility depends on them.
        """
        rows = self._rows(self._user_rows(), users, "user")
        attributes = np.asarray(attributes).reshape(-1, 4)
        motif = attributes[:, 0]
        taste = motif % self.style.shape[1]
        total = self.intercept[rows] + self.content[rows, motif]
        for start, column in zip(_style_starts(), (1, 2, 3), strict=True):
            total = total + self.style[rows, taste, start + attributes[:, column]]
        if self.sees_factors:
            if factors is None:
                raise ValueError("the utility of this simulation depends on factors, and none are given")
            total = total + graded(self.factors[rows, taste], np.asarray(factors).reshape(-1, len(FACTORS)))
        return total

    def probability(
        self, users: Sequence[str], attributes: np.ndarray, factors: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the probability of liking, float64 ``[n]``; arguments as for `utility`."""
        return expit(self.utility(users, attributes, factors))

    def attributes_of(self, items: Sequence[str]) -> np.ndarray:
        """Return what the items' own images show, int64 ``[n, 4]``."""
        index = {token: row for row, token in enumerate(self.item_ids)}
        return self.item_attributes[self._rows(index, items, "item")]

    def factors_of(self, items: Sequence[str]) -> np.ndarray:
        """Return the factors of the items' own images, float64 ``[n, 7]``."""
        index = {token: row for row, token in enumerate(self.item_ids)}
        return self.item_factors[self._rows(index, items, "item")]

    def save(self, folder: Path) -> None:
        """Write ``truth.safetensors`` and ``truth.json`` to `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        names = ("intercept", "content", "style", "item_attributes", "factors", "item_factors")
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in names}
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
        if "factors" not in arrays:  # written before images had factors
            users, tastes, _ = arrays["style"].shape
            arrays["factors"] = np.zeros((users, tastes, len(FACTORS)))
            arrays["item_factors"] = np.tile(NEUTRAL, (len(ids["item_ids"]), 1)).astype(np.float64)
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


def true_auc(
    truth: Truth,
    users: Sequence[str],
    attributes: np.ndarray,
    likes: np.ndarray,
    factors: np.ndarray | None = None,
) -> float:
    """Return the AUC of the true probability for `likes` (bool ``[n]``): what a perfect verifier would reach, or NaN."""
    return auc(truth.utility(users, attributes, factors), likes)


@dataclass(frozen=True)
class World:
    """How a simulated world's users and items are made.

    Attributes
    ----------
    users, items
        How many of each; a user's taste and an item's look depend on the seed and their own token only.
    interactions_per_user
        Different items each user meets, at random (at most `items`).
    tastes_per_user, tastes_in, interaction
        See `recgen.data.simulation.tastes.draw_tastes`.
    newcomers, newcomer_interactions
        Share of users who are new, and how many items these meet.
    like_rate
        Mean over users of the share of all possible images a user likes; users differ in proportion.
    taste_strength
        What the likings of styles and factors are multiplied by; those of contents stay.
    """

    users: int
    items: int
    interactions_per_user: int = 100
    tastes_per_user: int = 1
    tastes_in: TastesIn = "words"
    interaction: float = 1.0
    newcomers: float = 0.0
    newcomer_interactions: int = 8
    like_rate: float = LIKE_RATE
    taste_strength: float = 1.0


def simulate(out: Path, world: World, seed: int) -> Truth:
    """Write a simulated data set to `out` as RecBole atomic files named after the folder.

    Parameters
    ----------
    out
        The folder: ``<name>.inter``, ``.item``, ``.user``, ``images/<item>.png`` and ``simulator/``.
    world
        Its users and items.
    seed
        Seed of everything.

    Returns
    -------
    Truth
        Also saved to ``out/simulator``.

    Raises
    ------
    UserError
        If a number is not positive or more interactions than items are asked for.
    """
    _check(world)
    truth = draw_truth(world, seed)
    (out / "images").mkdir(parents=True, exist_ok=True)
    for row, item in enumerate(truth.item_ids):
        look = Attributes(*truth.item_attributes[row].tolist())
        factors = Factors(*truth.item_factors[row].tolist()) if truth.sees_factors else None
        render(look, image_seed(seed, item), factors).save(out / f"images/{item}.png")
        show("posters drawn", row + 1, len(truth.item_ids))
    _write_atomic(draw_interactions(truth, seed, world), out, "inter")
    texts = [
        item_text(seed, item, motif)
        for item, motif in zip(truth.item_ids, truth.item_attributes[:, 0], strict=True)
    ]
    _write_atomic(pd.DataFrame({"item_id:token": truth.item_ids, "title:token_seq": texts}), out, "item")
    _write_atomic(pd.DataFrame({"user_id:token": truth.user_ids}), out, "user")
    truth.save(out / "simulator")
    return truth


def image_seed(seed: int, item: str) -> int:
    """Return what an item's own image is rendered with."""
    return seed_for(seed, "simulator picture", "", item)


def draw_truth(world: World, seed: int) -> Truth:
    """Draw tastes and looks without writing anything; see `simulate`."""
    user_ids = [f"u{n}" for n in range(1, world.users + 1)]
    item_ids = [f"i{n}" for n in range(1, world.items + 1)]
    tastes = draw_tastes(user_ids, seed, world.tastes_per_user, world.tastes_in, world.interaction)
    looks = [numpy_rng(seed, "simulator look", "", item).integers(SIZES) for item in item_ids]
    factors = np.stack([_item_factors(seed, item, world.tastes_in) for item in item_ids])
    intercept = np.zeros(world.users)
    truth = Truth(
        user_ids,
        item_ids,
        intercept,
        tastes.content,
        world.taste_strength * tastes.style,
        np.stack(looks),
        world.taste_strength * tastes.factors,
        factors,
    )
    truth.intercept[:] = _intercepts(truth, seed, world.like_rate)
    return truth


def _item_factors(seed: int, item: str, tastes_in: TastesIn) -> np.ndarray:
    if tastes_in == "words":
        return np.array(seeded_factors(image_seed(seed, item)))
    return np.array(draw_factors(numpy_rng(seed, "simulator factors", "", item)))


def draw_interactions(truth: Truth, seed: int, world: World) -> pd.DataFrame:
    """Draw the encounters of every user, as the columns of an ``.inter`` file, each user's in order of time."""
    frames = []
    for user in truth.user_ids:
        rng = numpy_rng(seed, "simulator encounters", user)
        count = world.interactions_per_user
        if world.newcomers and numpy_rng(seed, "simulator newcomer", user).random() < world.newcomers:
            count = min(count, world.newcomer_interactions)
        met = rng.choice(len(truth.item_ids), size=count, replace=False)
        probability = truth.probability([user] * count, truth.item_attributes[met], truth.item_factors[met])
        likes = rng.random(count) < probability
        times = (
            FIRST_TIMESTAMP + SECONDS_BETWEEN * np.arange(count) + rng.integers(SECONDS_BETWEEN, size=count)
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


def _intercepts(truth: Truth, seed: int, like_rate: float) -> np.ndarray:
    """Solve each user's intercept by bisection so that they like their own target share of random images."""
    images = numpy_rng(seed, "simulator calibration").integers(SIZES, size=(_CALIBRATION_IMAGES, 4))
    factors = numpy_rng(seed, "simulator calibration of factors").uniform(-1, 1, (len(images), len(FACTORS)))
    logits = np.stack([truth.utility([user] * len(images), images, factors) for user in truth.user_ids])
    draws = [numpy_rng(seed, "simulator like rate", user).standard_normal() for user in truth.user_ids]
    scale = like_rate / LIKE_RATE
    target = (scale * (LIKE_RATE + LIKE_RATE_SPREAD * np.array(draws))).clip(0.1 * scale, 0.9)
    low, high = np.full(len(target), -20.0), np.full(len(target), 20.0)
    for _ in range(40):
        middle = (low + high) / 2
        too_high = expit(logits + middle[:, None]).mean(axis=1) > target
        low, high = np.where(too_high, low, middle), np.where(too_high, middle, high)
    return (low + high) / 2


def _write_atomic(table: pd.DataFrame, out: Path, suffix: str) -> None:
    table.to_csv(out / f"{out.resolve().name}.{suffix}", sep="\t", index=False)


def _check(world: World) -> None:
    for name in ("users", "items", "interactions_per_user", "tastes_per_user", "newcomer_interactions"):
        if getattr(world, name) < 1:
            raise UserError(
                f"simulate: {name}", found=str(getattr(world, name)), expected="a positive whole number"
            )
    for name in ("newcomers", "interaction"):
        if not 0 <= getattr(world, name) <= 1:
            raise UserError(f"simulate: {name}", found=str(getattr(world, name)), expected="a share, 0 to 1")
    if not 0 < world.like_rate < 0.9:
        raise UserError(
            "simulate: like_rate", found=str(world.like_rate), expected="a share above 0 and below 0.9"
        )
    if world.interactions_per_user > world.items:
        raise UserError(
            "simulate: interactions_per_user", found=f"{world.interactions_per_user} of {world.items} items",
            expected="at most the number of items", todo="Ask for more items or fewer interactions.",
        )  # fmt: skip
