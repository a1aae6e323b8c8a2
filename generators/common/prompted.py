"""What generators with nothing to learn share: the item's text as prompt, and no state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from generators.base import Generator, Progress, silent
from generators.common.sampling import Drawing, draw
from generators.common.settings import PLACE
from recgen.data.types import Creative, Request, RunData
from recgen.recommender.reward import RewardModel


def fill(template: str, text: str) -> str:
    """Return the prompt of an item.

    Examples
    --------
    >>> fill("a poster of {text}, {detailed}", "a film about a ship")
    'a poster of a film about a ship, {detailed}'
    """
    return template.replace(PLACE, text)


class Prompted(Generator):
    """A generator that shows the item by its text and has nothing to fit, save or load."""

    config: Any

    def fit(
        self,
        data: RunData,
        reward: RewardModel | None = None,
        judge: RewardModel | None = None,
        progress: Progress = silent,
    ) -> None:
        """Learn nothing."""

    def save(self, folder: Path) -> None:
        """Write nothing but the empty `folder`."""
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, folder: Path) -> None:
        """Restore nothing."""

    @abstractmethod
    def drawing(self, request: Request, data: RunData) -> Drawing:
        """Return what one request's image is drawn from."""

    def prompt(self, request: Request, data: RunData) -> str:
        """Return the prompt of a request's item."""
        return fill(self.config.template, data.texts[data.item_rows[request.item_id]])

    def generate(
        self,
        requests: Sequence[Request],
        data: RunData,
        reward: RewardModel | None = None,
        progress: Progress = silent,
    ) -> Iterator[Creative]:
        """Yield one creative per request, in order."""
        drawings = (self.drawing(request, data) for request in requests)
        yield from draw(self, requests, drawings, self.config.decode, progress)
