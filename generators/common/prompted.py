"""What generators with nothing to learn share: the item's text as prompt."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from generators.base import Untrained
from generators.common.sampling import Drawing, DrawsConditions
from generators.common.settings import PLACE
from recgen.data.types import Request, RunData
from recgen.recommender.reward import RewardModel


def fill(template: str, text: str) -> str:
    """Return the prompt of an item.

    Examples
    --------
    >>> fill("a poster of {text}, {detailed}", "a film about a ship")
    'a poster of a film about a ship, {detailed}'
    """
    return template.replace(PLACE, text)


class Prompted(Untrained, DrawsConditions):
    """A generator that shows the item by its text and learns nothing."""

    config: Any

    @abstractmethod
    def drawing(self, request: Request, data: RunData) -> Drawing:
        """Return what one request's image is drawn from."""

    def prompt(self, request: Request, data: RunData) -> str:
        """Return the prompt of a request's item."""
        return fill(self.config.template, data.texts[data.item_rows[request.item_id]])

    def drawings(
        self, requests: Sequence[Request], data: RunData, reward: RewardModel | None
    ) -> Iterator[Drawing]:
        """Yield what each request's image is drawn from."""
        return (self.drawing(request, data) for request in requests)
