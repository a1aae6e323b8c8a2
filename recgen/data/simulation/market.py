"""The simulator as a shop: users open pages that a recommender ranks, see images, click, and the log is learned from.

In each round the recommender ranks some candidates for every user; each user opens some pages of the ten best; every page is
given to one *arm*, which decides whose images it shows; a click model (`recgen.data.simulation.click_models`) turns what users
truly think of them into clicks; and with the log so far the recommender is trained anew.

How much an item with an image attracts a user is sigmoid(u), where

    u = (1 - effect) base(user, item) + effect utility(user, image)

`utility` is the simulator's (`Truth.utility`), of what the image shows; `base` is what the user thinks of the item whatever its
image. An effect of 1 is the world that the data set's log comes from; with an effect of 0 no image changes any click: the
negative control.

Where pages of a world are of several arms, each user's pages of a round are dealt to them in equal numbers and a random order: a
randomised block design, and within one user an arm's propensity is one over the number of arms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from scipy.special import expit

from recgen.core.seeding import numpy_rng
from recgen.data.simulation.click_models import ClickModel
from recgen.data.simulation.simulator import Truth

PLACES = 10
"""Items on a page."""

Images = Callable[[Sequence[str], Sequence[str]], tuple[np.ndarray, list[str]]]
"""What an arm shows n users for n items: each user's true utility of the image, float64 ``[n]``, and the images' names."""


class Recommender(Protocol):
    """A recommender as it is after a training."""

    def rank(self, users: Sequence[str], candidates: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Return each user's candidates, the best first."""

    def quality(self, users: Sequence[str]) -> pd.DataFrame:
        """Return how well it ranks what users are known to like: a column user_id and one per metric."""


Trainer = Callable[[pd.DataFrame], Recommender]
"""Trains a recommender on what is known of everybody, and on a market's log so far."""


@dataclass(frozen=True)
class Shop:
    """What users think and how they click.

    Attributes
    ----------
    base
        Returns float64 ``[n]``, what user i thinks of item i whatever its image, for tokens of n users and n items, as
        `base_utility` does for a world that is simulated as a whole.
    clicks
        The click model.
    effect
        How much the image matters, from 0 (not at all) to 1 (as in the simulator's log).
    """

    base: Callable[[Sequence[str], Sequence[str]], np.ndarray]
    clicks: ClickModel
    effect: float = 1.0

    def attraction(self, users: Sequence[str], items: Sequence[str], utility: np.ndarray) -> np.ndarray:
        """Return the probability float64 ``[n]`` that a user who looks at an item with an image of this utility clicks it."""
        return expit((1 - self.effect) * self.base(users, items) + self.effect * utility)


def base_utility(truth: Truth, users: Sequence[str], items: Sequence[str]) -> np.ndarray:
    """Return what users think of items whatever their style, float64 ``[n]``: the intercept and the liking of the own motif."""
    rows = {token: row for row, token in enumerate(truth.user_ids)}
    own = np.array([rows[user] for user in users], dtype=np.int64)
    return truth.intercept[own] + truth.content[own, truth.attributes_of(items)[:, 0]]


@dataclass(frozen=True)
class Visits:
    """Who comes how often.

    Attributes
    ----------
    candidates
        By user, the items that the recommender may show.
    rounds
        How often everybody comes back after a retraining.
    pages
        Pages that a user opens a round and arm.
    places
        Items on a page.
    """

    candidates: Mapping[str, Sequence[str]]
    rounds: int
    pages: int
    places: int = PLACES

    @property
    def users(self) -> list[str]:
        """The users' tokens."""
        return list(self.candidates)


@dataclass(frozen=True)
class World:
    """What came of a market.

    Attributes
    ----------
    log
        A click log (`recgen.data.click_log`) with one column more: ``expected``, the true probability of each click.
    quality
        What `Recommender.quality` says before the first round and after each, with a column ``round``: how many logs it knows.
    """

    log: pd.DataFrame
    quality: pd.DataFrame


def play(
    shop: Shop, arms: Mapping[str, Images], train: Trainer, visits: Visits, seed: int, name: str
) -> World:
    """Return what comes of a market.

    Parameters
    ----------
    shop
        The users.
    arms
        Whose images are shown, by the arm's name.
    train
        Trains the recommender.
    visits
        Who comes how often.
    seed
        Seed of the arms' order and of the clicks; a user's depend on the user, the round and `name` alone.
    name
        The world's; worlds of different names draw their clicks independently.
    """
    logs: list[pd.DataFrame] = []
    quality = []
    for step in range(visits.rounds + 1):
        recommender = train(pd.concat(logs, ignore_index=True) if logs else pd.DataFrame())
        quality.append(recommender.quality(visits.users).assign(round=step))
        if step < visits.rounds:
            logs.append(_round(shop, arms, recommender, visits, seed, name, step))
    return World(pd.concat(logs, ignore_index=True), pd.concat(quality, ignore_index=True))


def _round(
    shop: Shop,
    arms: Mapping[str, Images],
    recommender: Recommender,
    visits: Visits,
    seed: int,
    name: str,
    step: int,
) -> pd.DataFrame:
    ranked = recommender.rank(visits.users, visits.candidates)
    pages = [
        (user, f"{name}/{step}/{user}/{number}", arm, item, place)
        for user in visits.users
        for number, arm in enumerate(_dealt(list(arms), visits.pages, seed, name, user, step))
        for place, item in enumerate(ranked[user][: visits.places], start=1)
    ]
    log = pd.DataFrame(pages, columns=["user_id", "page_id", "arm", "item_id", "position"])
    log = log.assign(round=step, propensity=1 / len(arms), picture="")
    utility = np.zeros(len(log))
    for arm, rows in log.groupby("arm", sort=False).indices.items():
        users, items = (log[column].to_numpy()[rows].tolist() for column in ("user_id", "item_id"))
        utility[rows], log.loc[rows, "picture"] = arms[str(arm)](users, items)
    attraction = shop.attraction(log["user_id"].tolist(), log["item_id"].tolist(), utility)
    return log.assign(**_clicks(shop.clicks, log, attraction, seed, name, step))


def _dealt(arms: list[str], pages: int, seed: int, name: str, user: str, step: int) -> list[str]:
    """Return the arms of a user's pages of a round."""
    order = numpy_rng(seed, f"market arms {name} {step}", user).permutation(len(arms) * pages)
    return [arms[place % len(arms)] for place in order]


def _clicks(
    model: ClickModel, log: pd.DataFrame, attraction: np.ndarray, seed: int, name: str, step: int
) -> dict[str, np.ndarray]:
    """Return the log's columns ``click`` and ``expected``; a user's pages stand together, each from the top down."""
    click, expected = np.zeros(len(log), dtype=bool), np.zeros(len(log))
    for user, rows in log.groupby("user_id", sort=False).indices.items():
        pages = log["page_id"].to_numpy()[rows]
        shown = attraction[rows].reshape(len(dict.fromkeys(pages)), -1)
        uniform = numpy_rng(seed, f"market clicks {name} {step}", str(user)).random(shown.shape)
        click[rows], expected[rows] = model.draw(shown, uniform).ravel(), model.expected(shown).ravel()
    return {"click": click, "expected": expected}


def labels(log: pd.DataFrame) -> pd.DataFrame:
    """Return what a log says about users' likes: columns user_id, item_id and like (bool), one row per pair.

    What was clicked is liked. What was skipped above the last click of its page was looked at and not clicked, so it is disliked
    (Joachims, Granka, Pan, Hembrooke and Gay 2005), unless it was clicked another time. Of the rest nothing is known.
    """
    if not len(log):
        return pd.DataFrame({"user_id": [], "item_id": [], "like": np.zeros(0, dtype=bool)})
    last = log["position"].where(log["click"]).groupby(log["page_id"]).transform("max")
    known = log[log["click"] | (log["position"] < last)]
    found = known.groupby(["user_id", "item_id"], sort=True)["click"].any()
    return found.rename("like").reset_index()
