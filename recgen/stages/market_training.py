"""The market's recommender: the run's ranking model, trained on what is known and on the market's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from recgen.core.seeding import seed_for
from recgen.data.simulation.market import labels
from recgen.pipeline.context import RunContext
from recgen.recommender import feedback, recbole
from recgen.recommender.logged import RankedCatalogue, add_interactions
from recgen.recommender.training import train
from recgen.stages.ranker import feedback_config, feedback_splits, is_pointwise, item_features

CUTOFF = 10


def model_name(run: RunContext) -> str:
    """Return the name of the market's model: `recgen.market.model`, else that of the downstream stage, else the judge's."""
    market = run.settings.market
    named = market.model if market else None
    return named or run.settings.downstream.model or run.settings.ranker.judge


class LogTrainer:
    """Trains the recommender on the run's training interactions and a market's log.

    All trainings of one seed begin with the same parameters and draw the same negatives as far as their data are the same. One
    without a log is done once.

    Parameters
    ----------
    run
        The run.
    seed
        The number of the repetition.
    candidates
        By user, the items that the market may show. They do not take part when it is measured how well held-out likes are ranked:
        what an arm has taught about them must neither hide a held-out like nor clear its way.
    """

    def __init__(self, run: RunContext, seed: int, candidates: Mapping[str, Sequence[str]]) -> None:
        self.run, self.candidates = run, candidates
        self.name = model_name(run)
        self.pointwise = is_pointwise(run, self.name)
        extra: dict[str, Any] = {
            **run.settings.downstream.settings,
            "seed": seed_for(run.settings.seed, "market", str(seed)) % 2**31,
            "item_features": item_features(run),
        }
        make = feedback_config if self.pointwise else RunContext.recbole_config
        self.config = make(run, self.name, extra)
        self.parts = feedback_splits(run, self.name) if self.pointwise else run.split
        self._measured = self._held_out()
        self._first: LoggedRecommender | None = None

    def __call__(self, log: pd.DataFrame) -> LoggedRecommender:
        """Train anew; see `recgen.data.simulation.market.Trainer`."""
        if len(log):
            return self._trained(labels(log))
        self._first = self._first or self._trained(labels(log))
        return self._first

    def _trained(self, known: pd.DataFrame) -> LoggedRecommender:
        label = feedback.LABEL if self.pointwise else None
        users, items = known["user_id"].tolist(), known["item_id"].tolist()
        parts = add_interactions(self.parts, users, items, known["like"].to_numpy(dtype=bool), label)
        data = recbole.loaders(self.config, parts)
        self.run.prepare_torch()  # RecBole's Config sets the visible devices
        trained = train(self.config, data)
        catalogue = RankedCatalogue(
            trained.model, data.train.dataset, list(self.candidates), self.run.data.item_ids
        )
        return LoggedRecommender(catalogue, *self._measured)

    def _held_out(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Return each market user's test likes, and the items that do not take part in ranking them."""
        table = self.run.interactions
        likes = table[table["like"] & table["user_id"].isin(list(self.candidates))]
        test, known = (
            {str(user): rows.tolist() for user, rows in part.groupby("user_id")["item_id"]}
            for part in (likes[likes["split"] == "test"], likes[likes["split"].isin(["train", "valid"])])
        )
        return test, {user: [*known.get(user, []), *self.candidates[user]] for user in test}


class LoggedRecommender:
    """A recommender of the market after a training; see `recgen.data.simulation.market.Recommender`."""

    def __init__(
        self, catalogue: RankedCatalogue, relevant: dict[str, list[str]], left_out: dict[str, list[str]]
    ) -> None:
        self.catalogue, self.relevant, self.left_out = catalogue, relevant, left_out

    def rank(self, users: Sequence[str], candidates: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Return each user's candidates, the best first."""
        return self.catalogue.rank(users, candidates)

    def quality(self, users: Sequence[str]) -> pd.DataFrame:
        """Return Recall@10 and NDCG@10 of the users' held-out likes."""
        wanted = {user: self.relevant[user] for user in users if user in self.relevant}
        return self.catalogue.quality(wanted, self.left_out, CUTOFF)


def candidates(run: RunContext) -> dict[str, list[str]]:
    """Return the market's users, and for each the items that may be shown.

    The items are those first in an order by seed that the user has not met. Nobody's test like is among the user's own, and which
    users and items are chosen follows from the seed and their tokens alone.
    """
    market, seed = run.settings.market, run.settings.seed
    assert market is not None
    table = run.interactions
    likes = table[table["like"]]
    held_out = set(likes.loc[likes["split"] == "test", "user_id"])
    known = set(likes.loc[likes["split"].isin(["train", "valid"]), "user_id"])
    users = sorted(held_out & known, key=lambda user: seed_for(seed, "market user", user))[: market.users]
    shown = run.items.loc[run.items["image"].notna(), "item_id"]
    items = np.array(
        sorted(shown, key=lambda item: seed_for(seed, "market candidate", item=item)), dtype=object
    )
    met = {str(user): rows.to_numpy() for user, rows in table.groupby("user_id")["item_id"]}
    return {user: items[~np.isin(items, met[user])][: market.candidates].tolist() for user in users}
