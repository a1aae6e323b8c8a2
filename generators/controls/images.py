"""Controls that show images which are here already: the item's own, one for everybody, another item's, a black one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from generators.base import Progress, Untrained, silent
from generators.controls.settings import Settings
from recgen.core.seeding import numpy_rng, seed_for
from recgen.data.images import read_image
from recgen.data.types import Creative, Request, RunData
from recgen.recommender.reward import RewardModel

CANDIDATES, PROBES = 40, 64
"""Images that `Constant` chooses from, and users of the other half whom it asks."""
EDGE = 64  # pixels of a blank image


class Shown(Untrained):
    """A control that shows images which are here already."""

    Config = Settings

    def generate(
        self,
        requests: Sequence[Request],
        data: RunData,
        reward: RewardModel | None = None,
        progress: Progress = silent,
    ) -> Iterator[Creative]:
        """Yield one creative per request, in order."""
        for request in requests:
            image, recipe = self.show(request, data)
            yield Creative(request, self.name, image, recipe)

    @classmethod
    def answers(cls, request: Request, data: RunData) -> bool:
        """Return whether there is an image to show for a request."""
        return any(path is not None for path in data.images)

    @abstractmethod
    def show(self, request: Request, data: RunData) -> tuple[Image.Image, dict[str, Any]]:
        """Return a request's image and what the recipe says of it."""

    def _of_item(self, row: int, data: RunData) -> tuple[Image.Image, dict[str, Any]]:
        path = data.images[row]
        assert path is not None, "an item without an image is never chosen"
        return read_image(path), {"image_of": data.item_ids[row]}


class Original(Shown):
    """The item's own image."""

    name = "original"

    @classmethod
    def answers(cls, request: Request, data: RunData) -> bool:
        """Return whether the item has an image."""
        return data.images[data.item_rows[request.item_id]] is not None

    def show(self, request: Request, data: RunData) -> tuple[Image.Image, dict[str, Any]]:
        """Return the item's own image."""
        return self._of_item(data.item_rows[request.item_id], data)


class RandomItem(Shown):
    """The image of another item, drawn by a seed of user and item."""

    name = "random_item"

    @classmethod
    def answers(cls, request: Request, data: RunData) -> bool:
        """Return whether another item has an image."""
        return len(_other_rows(request, data)) > 0

    def show(self, request: Request, data: RunData) -> tuple[Image.Image, dict[str, Any]]:
        """Return another item's image."""
        rng = numpy_rng(data.run_seed, "control random_item", request.user_id, request.item_id)
        return self._of_item(int(rng.choice(_other_rows(request, data))), data)


class Blank(Shown):
    """A black image, as a broken network draws it."""

    name = "blank"

    @classmethod
    def answers(cls, request: Request, data: RunData) -> bool:
        """Return True: black needs no image."""
        return True

    def show(self, request: Request, data: RunData) -> tuple[Image.Image, dict[str, Any]]:
        """Return a black image."""
        return Image.new("RGB", (EDGE, EDGE)), {}


class Constant(Shown):
    """The one image that lifts whatever item shows it most, by the reward; the same for all users and items.

    Users fall into two halves. The image of one half is the one that the reward likes best for users of the other, each asked
    about an item that the user has not met: nobody's own request has a say in what is shown for it. Candidates are the images of
    the items liked most often.
    """

    name = "constant"

    def fit(
        self,
        data: RunData,
        reward: RewardModel | None = None,
        judge: RewardModel | None = None,
        progress: Progress = silent,
    ) -> None:
        """Choose the image of each half by the mean score that the reward gives it on the other half's users."""
        candidates = self._candidates(data)
        self.rows = [self._best(candidates, 1 - half, data, reward) for half in (0, 1)]

    def show(self, request: Request, data: RunData) -> tuple[Image.Image, dict[str, Any]]:
        """Return the image of the user's half."""
        return self._of_item(self.row(request.user_id, data), data)

    def row(self, user: str, data: RunData) -> int:
        """Return the catalogue row of the item whose image a user is shown."""
        return self.rows[half_of(user, data)]

    def _candidates(self, data: RunData) -> list[int]:
        likes = data.interactions.loc[data.interactions["like"], "item"].value_counts()
        known = [row for row, path in enumerate(data.images) if path is not None]
        return sorted(known, key=lambda row: (-int(likes.get(row, 0)), row))[:CANDIDATES]

    def _best(self, candidates: list[int], half: int, data: RunData, reward: RewardModel | None) -> int:
        users, items = self._probes(half, data)
        if not users:  # a single user, say: whoever chooses, it is not the user of a request
            return candidates[0]
        assert reward is not None
        scores = [
            float(reward.score(users, items, np.tile(data.image_features[row], (len(users), 1))).mean())
            for row in candidates
        ]
        return candidates[int(np.argmax(scores))]

    def _probes(self, half: int, data: RunData) -> tuple[list[str], list[str]]:
        """Return up to `PROBES` users of a half and for each an item that the user has not met."""
        users = [user for user in data.user_ids if half_of(user, data) == half]
        users = sorted(users, key=lambda user: seed_for(data.run_seed, "control constant probe", user))
        met = data.interactions.groupby("user")["item"].agg(set)
        pairs = []
        for user in users[:PROBES]:
            seen = met.get(data.user_rows[user], set())
            unseen = [row for row in range(len(data.item_ids)) if row not in seen]
            if unseen:
                row = numpy_rng(data.run_seed, "control constant item", user).choice(unseen)
                pairs.append((user, data.item_ids[row]))
        return [user for user, _ in pairs], [item for _, item in pairs]


def half_of(user: str, data: RunData) -> int:
    """Return which half, 0 or 1, a user is in for the choice of the constant image."""
    return seed_for(data.run_seed, "control constant half", user) & 1


def _other_rows(request: Request, data: RunData) -> list[int]:
    own = data.item_rows[request.item_id]
    return [row for row, path in enumerate(data.images) if path is not None and row != own]
