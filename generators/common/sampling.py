"""From conditions to creatives: the loop that every diffusion generator ends with."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from PIL import Image

from generators.base import Generator, Progress, silent
from recgen.data.types import Creative, Request, RunData
from recgen.diffusion.conditions import Condition
from recgen.diffusion.sampling import Sampling
from recgen.recommender.reward import RewardModel

Drawing = tuple[Condition, dict[str, Any]]
"""What an image is drawn from, and what the recipe says of it beside backbone and sampling."""
Drawn = tuple[Image.Image, dict[str, Any]]
"""An image, and what the recipe says of it beside backbone and sampling."""


def draw(
    generator: Generator,
    requests: Sequence[Request],
    drawings: Iterable[Drawing],
    sampling: Sampling,
    progress: Progress,
) -> Iterator[Creative]:
    """Yield one creative per request, in order, each with its recipe and its seconds.

    Parameters
    ----------
    generator
        Whose creatives they are; its backbone draws.
    requests
        The requests, as many as `drawings`.
    drawings
        One per request. They are read here, so that the time it takes to work them out is on the creatives' clock: it counts
        to the first image.
    sampling
        How the images are sampled.
    progress
        Called after every image.
    """

    def drawn() -> Iterator[Drawn]:
        read = list(drawings)
        conditions, recipes = [condition for condition, _ in read], [recipe for _, recipe in read]
        yield from zip(generator.backbone.generate(conditions, sampling), recipes, strict=True)

    yield from finish(generator, requests, drawn(), sampling, progress)


def finish(
    generator: Generator,
    requests: Sequence[Request],
    drawn: Iterable[Drawn],
    sampling: Sampling,
    progress: Progress,
) -> Iterator[Creative]:
    """Yield one creative per request from images and their recipes, with the seconds that each took to come."""
    backbone = generator.backbone
    shared = {
        "backbone": backbone.name,
        "precision": backbone.precision,
        "decode": sampling.model_dump(mode="json"),
    }
    started = time.perf_counter()
    for done, (request, (image, recipe)) in enumerate(zip(requests, drawn, strict=True), start=1):
        now = time.perf_counter()
        yield Creative(request, generator.name, image, {**shared, **recipe}, now - started)
        progress(f"{generator.name}: images", done, len(requests))
        started = time.perf_counter()


class DrawsConditions(Generator):
    """A generator that says what each image is drawn from, and leaves the drawing to the backbone."""

    @abstractmethod
    def drawings(
        self, requests: Sequence[Request], data: RunData, reward: RewardModel | None
    ) -> Iterable[Drawing]:
        """Return what each request's image is drawn from, in order; arguments as for `Generator.generate`."""

    def generate(
        self,
        requests: Sequence[Request],
        data: RunData,
        reward: RewardModel | None = None,
        progress: Progress = silent,
    ) -> Iterator[Creative]:
        """Yield one creative per request, in order."""
        yield from draw(self, requests, self.drawings(requests, data, reward), self.config.decode, progress)


class DrawsImages(Generator):
    """A generator that draws in a way of its own: in blocks, with adapters put on, or several images of which one is kept."""

    @abstractmethod
    def drawn(
        self, requests: Sequence[Request], data: RunData, reward: RewardModel | None
    ) -> Iterable[Drawn]:
        """Yield each request's image, in order; arguments as for `Generator.generate`."""

    def generate(
        self,
        requests: Sequence[Request],
        data: RunData,
        reward: RewardModel | None = None,
        progress: Progress = silent,
    ) -> Iterator[Creative]:
        """Yield one creative per request, in order."""
        yield from finish(self, requests, self.drawn(requests, data, reward), self.config.decode, progress)
