"""What generators with nothing to learn share: the item's text as prompt, and no state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from generators.base import Generator, GeneratorConfig, Progress, silent
from generators.common.sampling import Drawing, draw
from recgen.data.types import Creative, Request, RunData
from recgen.diffusion.backbone import Sampling
from recgen.recommender.reward import RewardModel

PLACE = "{text}"


def _has_place(template: str) -> str:
    if PLACE not in template:
        raise ValueError(f"a template with {PLACE} where the item's text goes")
    return template


Template = Annotated[str, AfterValidator(_has_place)]
"""A prompt with ``{text}`` in the place of the item's text; other braces are left as they are."""


def fill(template: str, text: str) -> str:
    """Return the prompt of an item.

    Examples
    --------
    >>> fill("a poster of {text}, {detailed}", "a film about a ship")
    'a poster of a film about a ship, {detailed}'
    """
    return template.replace(PLACE, text)


class PromptedConfig(GeneratorConfig):
    """The settings they share."""

    template: Template = PLACE
    negative_prompt: str = ""
    decode: Sampling = Sampling.model_validate({})


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
