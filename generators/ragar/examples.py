"""What RAGAR knows of a user and an item before its network sees them, and the training examples made of earlier likes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from generators.common.training import likes_by_user, references, split_users
from generators.ragar.content import NetOfContent
from generators.ragar.retrieval import Retrieved, retrieve, retrieve_preferred, standardise
from generators.ragar.settings import Settings
from recgen.core.seeding import numpy_rng
from recgen.data.requests import HISTORY
from recgen.data.types import RunData
from recgen.features.item_keywords import top_keywords
from recgen.recommender.reward import RewardModel

_USERS_AT_ONCE = 64  # of whom the recommender scores the whole catalogue together

Triple = tuple[str, str, Sequence[int]]
"""Tokens of a user and an item, and the user's history: catalogue rows of liked items, oldest first."""


@dataclass(frozen=True, eq=False)
class Example:
    """A user and an item, and all that RAGAR knows of them.

    Attributes
    ----------
    user, item
        Tokens.
    text, caption
        The item's text, and the caption of its image.
    keywords
        w', the user's.
    retrieved
        What the retrieval module found.
    liked
        float32 ``[D]``, the mean of all images of the history; None where none of its items has one.
    """

    user: str
    item: str
    text: str
    caption: str
    keywords: tuple[str, ...]
    retrieved: Retrieved
    liked: np.ndarray | None

    @property
    def key(self) -> str:
        """What its random numbers follow from."""
        return f"{self.user}\x1f{self.item}"


@dataclass(frozen=True)
class TrainingExamples:
    """Examples to train on, and examples of other users for early stopping."""

    train: list[Example]
    held_out: list[Example]


class ExampleBuilder:
    """Makes examples of one catalogue.

    Parameters
    ----------
    data
        The catalogue and its users.
    settings
        RAGAR's.
    reward
        The recommender (`recgen.recommender.reward.Ranker`), if retrieval asks it.

    Raises
    ------
    ValueError
        If `settings` retrieve by the reward and there is none.
    """

    def __init__(self, data: RunData, settings: Settings, reward: RewardModel | None = None) -> None:
        if settings.retrieves_by_reward and reward is None:
            raise ValueError("RAGAR with weights: reward needs a reward")
        self.data, self.settings, self.reward = data, settings, reward

    @cached_property
    def _seen(self) -> list[int]:
        """Catalogue rows of the items with an image and a caption."""
        assert self.data.caption_features is not None
        both = np.isfinite(self.data.image_features).all(1) & np.isfinite(self.data.caption_features).all(1)
        return np.flatnonzero(both).tolist()

    def build(self, triples: Sequence[Triple]) -> list[Example]:
        """Return an example for each (user, item, history)."""
        users = list(dict.fromkeys(user for user, _, _ in triples if user in self.data.user_rows))
        scores = self._scores(users) if self.settings.retrieves_by_reward else {}
        return [self._example(user, item, history, scores.get(user)) for user, item, history in triples]

    def _scores(self, users: Sequence[str]) -> dict[str, np.ndarray]:
        """Return each user's standardised scores of the items in `_seen`."""
        assert self.reward is not None
        items = [self.data.item_ids[row] for row in self._seen]
        found: dict[str, np.ndarray] = {}
        for start in range(0, len(users), _USERS_AT_ONCE):
            block = users[start : start + _USERS_AT_ONCE]
            scores = self.reward.score_all(block, items).detach().cpu().double().numpy()
            found |= dict(zip(block, standardise(scores), strict=True))
        return found

    @cached_property
    def _net(self) -> NetOfContent:
        """What takes from scores what texts explain; its strength is found by users whom the run's seed draws."""
        data = self.data
        met = np.unique(data.interactions["user"].to_numpy(np.int64))
        drawn = numpy_rng(data.run_seed, "ragar content users").permutation(met)[:_USERS_AT_ONCE]
        scores = list(self._scores([data.user_ids[user] for user in drawn]).values())
        asked = np.reshape(scores, (len(drawn), len(self._seen)))
        return NetOfContent(data.text_features[self._seen], asked, data.run_seed)

    def _example(self, user: str, item: str, history: Sequence[int], scores: np.ndarray | None) -> Example:
        data, settings, row = self.data, self.settings, self.data.item_rows[item]
        latest = list(history)[-HISTORY:]
        assert data.caption_features is not None
        whole = retrieve(latest, row, data.caption_features, data.image_features, 0)
        words = top_keywords(
            [data.keywords[i] for i in latest], settings.keywords, settings.min_keyword_count
        )
        found = self._retrieved(latest, row, scores)
        return Example(user, item, data.texts[row], data.captions[row], tuple(words), found, whole.preference)

    def _retrieved(self, latest: list[int], item: int, scores: np.ndarray | None) -> Retrieved:
        """Return what is retrieved; of a user whom the recommender does not know, by eq. 5 from the history."""
        s, semantics, visuals = self.settings, self.data.caption_features, self.data.image_features
        assert semantics is not None
        if scores is None:
            return retrieve(latest, item, semantics, visuals, s.k)
        if s.net_of_content and len(self._seen) > 1:
            place = bisect_left(self._seen, item)
            known = place < len(self._seen) and self._seen[place] == item
            scores = standardise(self._net.of(scores, place if known else -1)[None])[0]
        own = set(latest)
        chosen = [n for n, row in enumerate(self._seen) if s.retrieve_from != "history" or row in own]
        if s.retrieve_from == "catalogue":
            chosen = [n for n in chosen if self._seen[n] not in own]
        candidates = [self._seen[n] for n in chosen]
        return retrieve_preferred(candidates, scores[chosen], item, semantics, visuals, s.k, s.tau, s.kappa)


def training_examples(builder: ExampleBuilder) -> TrainingExamples:
    """Make requests of what was liked before the references: a liked item as reference, the likes before it as history."""
    data, settings = builder.data, builder.settings
    by_user = likes_by_user(data)
    able = [user for user, items in by_user.items() if len(items) > settings.min_history]
    learned, held = split_users(able, "ragar users", data.run_seed, settings)

    def triples(users: Sequence[int], count: int) -> Iterator[Triple]:
        for user in users:
            items = by_user[user]
            for at in references(len(items), count, settings):
                yield data.user_ids[user], data.item_ids[items[at]], items[:at]

    return TrainingExamples(
        builder.build(list(triples(learned, settings.references_per_user))),
        builder.build(list(triples(held, 1))),
    )
