"""The generate stage's controls: what `generators.controls` shows, drawn in chunks as a generator's creatives are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pandas as pd

from generators.controls.settings import PlaceboSettings, Settings
from generators.controls.swapped import donors
from recgen.config.generators import placebo_decode
from recgen.data.types import Creative, Request
from recgen.pipeline.context import RunContext
from recgen.pipeline.controls import KINDS, PLACEBO, PREFIX, SWAPPED
from recgen.recommender.reward import LazyRanker
from recgen.stages.chunks import Chunks
from recgen.stages.generate import Drawer, drawn, keep, naming_broken
from recgen.stages.groups import drawn_requests
from recgen.stages.ranker import reward_model


class ControlChunks(Chunks):
    """What a control shows for the requests that it can answer."""

    @cached_property
    def asked(self) -> Sequence[Request]:
        """The requests that the control can answer."""
        answers = _control(self.run, self.name)[1]
        return [request for request in self.run.requests if answers(request)]

    @cached_property
    def _drawer(self) -> ControlDrawer:
        return ControlDrawer(self.run, self.name)

    def make(self, block: Sequence[Request], shard: str | None) -> tuple[pd.DataFrame, np.ndarray]:
        """Draw and write the control's images of some requests."""
        return keep(self.run, self.name, self._drawer.draw(block), shard=shard)


class ControlDrawer:
    """A control at work, as `recgen.stages.generate.Drawer` is a generator."""

    def __init__(self, run: RunContext, name: str) -> None:
        self.run, self.name = run, name

    @cached_property
    def _reward(self) -> LazyRanker:
        return reward_model(self.run, "reward")

    @cached_property
    def _control(self) -> Any:
        control = _control(self.run, self.name)[0]
        control.fit(self.run.data, reward=self._reward)
        return control

    def draw(self, requests: Sequence[Request]) -> list[Creative]:
        """Return what it shows for some requests, one creative each.

        Raises
        ------
        UserError
            For a broken image.
        """
        with naming_broken(self.name, requests):
            return list(self._control.generate(requests, self.run.data, reward=self._reward))


class SwappedChunks(Chunks):
    """For each request the creative of another user, of a source that has drawn all of its own.

    Creatives that are there are taken; those of a user who is alone with an item are drawn, unless the generator reads its images
    from a folder. Where users share creatives, a group is given another group's. What is asked is pairs of a request and its
    donor's.
    """

    @cached_property
    def source(self) -> str:
        """Whose creatives change hands."""
        return self.name.removeprefix(SWAPPED)

    @cached_property
    def _drawer(self) -> Drawer | ControlDrawer:
        return (ControlDrawer if self.source == PLACEBO else Drawer)(self.run, self.source)

    @cached_property
    def _made(self) -> tuple[pd.DataFrame, np.ndarray]:
        return drawn(self.run, self.source)

    @cached_property
    def _places(self) -> dict[tuple[str, str], int]:
        made = self._made[0]
        return {pair: row for row, pair in enumerate(zip(made["user_id"], made["item_id"], strict=True))}

    @cached_property
    def asked(self) -> Sequence[tuple[Request, Request]]:
        """The requests that another user's creative can be shown for, each with its donor's."""
        run, draws = self.run, _draws(self.run, self.source)
        asked = drawn_requests(run, self.source)
        pairs = zip(asked, donors(asked, run.settings.seed), strict=True)
        return [(request, donor) for request, donor in pairs if donor and (draws or not self._absent(donor))]

    def _absent(self, donor: Request) -> bool:
        return (donor.user_id, donor.item_id) not in self._places

    def left_to_draw(self) -> list[int]:
        """Return the numbers of the unfinished chunks that need creatives that the source has not drawn."""
        return [
            number
            for number in super().left_to_draw()
            if any(self._absent(donor) for _, donor in self.block(number))
        ]

    def make(
        self, block: Sequence[tuple[Request, Request]], shard: str | None
    ) -> tuple[pd.DataFrame, np.ndarray]:
        """Return rows and embeddings of donors' creatives, drawn where they are not yet, under the recipients' names."""
        (made, embeddings), places = self._made, self._places
        absent = [donor for _, donor in block if self._absent(donor)]
        if absent:
            rows, more = keep(self.run, self.name, self._drawer.draw(absent), shard=shard)
            places = places | {(each.user_id, each.item_id): len(made) + n for n, each in enumerate(absent)}
            made, embeddings = pd.concat([made, rows], ignore_index=True), np.concatenate([embeddings, more])
        chosen = [places[donor.user_id, donor.item_id] for _, donor in block]
        rows = made.iloc[chosen].assign(
            user_id=[request.user_id for request, _ in block], generator=self.name
        )
        return rows.reset_index(drop=True), embeddings[chosen]


def _control(run: RunContext, name: str) -> tuple[Any, Callable[[Request], bool]]:
    """Return a control, not fitted, and a function that says which requests it can answer."""
    kind = resolve_name(KINDS[name.removeprefix(PREFIX)])
    settings: Settings | PlaceboSettings = kind.Config()
    if isinstance(settings, PlaceboSettings):
        decode, noises = placebo_decode(run.config.generators.values()), run.settings.placebo_noises
        settings = PlaceboSettings.model_validate(
            {"noises": noises, **({} if decode is None else {"decode": decode})}
        )
        return kind(settings, run.models.backbone, run.models.encoder), lambda request: True
    return kind(settings, None, run.models.encoder), lambda request: kind.answers(request, run.data)


def _draws(run: RunContext, source: str) -> bool:
    """Return whether a source draws, and does not read its images from a folder."""
    return source == PLACEBO or bool(run.config.generators[source].families)
