"""The generate stage's controls: what `generators.controls` shows, drawn in shards as a generator's creatives are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pandas as pd

from generators.controls.settings import PlaceboSettings, Settings
from generators.controls.swapped import donors
from recgen.data.types import Creative, Request
from recgen.pipeline.context import RunContext
from recgen.pipeline.controls import KINDS, PREFIX, SWAPPED
from recgen.stages.generate import creatives, finished_rows, fitted, keep, shard_files, write_shard
from recgen.stages.ranker import reward_model


def draw(run: RunContext, name: str) -> list[Path]:
    """Draw one control's images for the requests that it can answer, shard by shard."""
    learner, wanted = _control(run, name)
    reward = reward_model(run, "reward")
    asked = [request for request in run.requests if wanted(request)]
    if asked:
        learner.fit(run.data, reward=reward)
    outputs: list[Path] = []
    for block, table in _shards(run, name, asked):
        rows = finished_rows(run.folder, table)
        if rows is None:
            rows, embeddings = keep(run, name, list(learner.generate(block, run.data, reward=reward)))
            write_shard(table, rows, embeddings)
        outputs += shard_files(run.folder, table, rows)
    return outputs


def _control(run: RunContext, name: str) -> tuple[Any, Any]:
    """Return a control, not fitted, and a function that says which requests it can answer."""
    kind = resolve_name(KINDS[name.removeprefix(PREFIX)])
    settings: Settings | PlaceboSettings = kind.Config()
    if isinstance(settings, PlaceboSettings):
        settings = placebo_settings(run)
        return kind(settings, run.backbone, run.encoder), lambda request: True
    return kind(settings, None, run.encoder), lambda request: kind.answers(request, run.data)


def placebo_settings(run: RunContext) -> PlaceboSettings:
    """Return the placebo's settings: it is sampled as the first generator is that draws."""
    blocks = [run.config.generators[name].settings for name in run.settings.generators]
    return PlaceboSettings.model_validate(
        {key: block[key] for block in blocks[:1] for key in ("decode",) if key in block}
    )


def swap(run: RunContext, name: str) -> list[Path]:
    """Give each request the creative that the generator under test makes of the item for another user.

    Creatives that are there are taken; those of a user who is alone with an item are drawn, unless the generator reads its images
    from a folder.
    """
    source = name.removeprefix(SWAPPED)
    made, embeddings = creatives(run, source)
    places = {pair: row for row, pair in enumerate(zip(made["user_id"], made["item_id"], strict=True))}
    pairs = [
        (request, donor)
        for request, donor in zip(run.requests, donors(run.requests, run.settings.seed), strict=True)
        if donor and ((donor.user_id, donor.item_id) in places or _draws(run, source))
    ]
    outputs: list[Path] = []
    for block, table in _shards(run, name, pairs):
        rows = finished_rows(run.folder, table)
        if rows is None:
            rows, swapped = _swapped(run, name, block, (made, embeddings, places))
            write_shard(table, rows, swapped)
        outputs += shard_files(run.folder, table, rows)
    return outputs


def _draws(run: RunContext, source: str) -> bool:
    """Return whether a source draws, and does not read its images from a folder."""
    return source == f"{PREFIX}placebo" or bool(run.config.generators[source].families)


def _swapped(
    run: RunContext,
    name: str,
    pairs: Sequence[tuple[Request, Request]],
    drawn: tuple[pd.DataFrame, np.ndarray, dict[tuple[str, str], int]],
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return rows and embeddings of donors' creatives, drawn where they are not yet, under the names of those who get them."""
    made, embeddings, places = drawn
    absent = [donor for _, donor in pairs if (donor.user_id, donor.item_id) not in places]
    if absent:
        rows, more = keep(run, name, _redraw(run, name.removeprefix(SWAPPED), absent))
        places = places | {(each.user_id, each.item_id): len(made) + n for n, each in enumerate(absent)}
        made, embeddings = pd.concat([made, rows], ignore_index=True), np.concatenate([embeddings, more])
    chosen = [places[donor.user_id, donor.item_id] for _, donor in pairs]
    recipients = [request.user_id for request, _ in pairs]
    rows = made.iloc[chosen].assign(user_id=recipients, generator=name)
    return rows.reset_index(drop=True), embeddings[chosen]


def _redraw(run: RunContext, source: str, requests: Sequence[Request]) -> list[Creative]:
    """Return what the generator under test makes of requests that are none of the run's."""
    reward = reward_model(run, "reward")
    if source == f"{PREFIX}placebo":
        return list(_control(run, source)[0].generate(requests, run.data, reward=reward))
    return list(fitted(run, source).generate(requests, run.data, reward=reward))


def _shards(run: RunContext, name: str, asked: Sequence[Any]) -> Iterator[tuple[Sequence[Any], Path]]:
    """Yield what each shard is to hold, and its table."""
    size = run.settings.shard_size
    for start in range(0, len(asked), size):
        yield asked[start : start + size], run.folder / f"creatives/shards/{name}/{start:07d}.parquet"
