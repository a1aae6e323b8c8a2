"""What sharing costs: users' own creatives of some requests beside those of ever fewer groups; see `recgen.metrics.sharing`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen.core.io import read_features, write_json, write_parquet
from recgen.core.progress import show
from recgen.data.requests import in_order
from recgen.data.types import Request
from recgen.metrics import sharing
from recgen.pipeline.context import RunContext
from recgen.pipeline.groups import plan
from recgen.stages import groups
from recgen.stages.chunks import Chunks
from recgen.stages.creative_batch import CreativeBatch
from recgen.stages.generate import Drawer, drawn, keep
from recgen.stages.measure import by_rankers, by_truth, by_verifier

Pair = tuple[str, str]


def measure(run: RunContext, name: str) -> list[Path]:
    """Draw and measure the levels of sharing of one generator: groups/<name>.parquet and .json, and shards of what was drawn."""
    asked, points = plan(run.settings), groups.read_tastes(run)
    sample = sampled(run, asked.compare)
    shown = {level: who(run, level, points) for level in (sharing.OWN, *sharing.levels(asked.groups))}
    table, outputs = compare(run, name, sample, shown)
    images = {level: images_of(run.requests, of) for level, of in shown.items()}
    curve = sharing.curve(table, images, run.settings.seed)
    folder = run.folder / "groups"
    write_parquet(folder / f"{name}.parquet", table)
    write_json(folder / f"{name}.json", {"curve": curve, "requests": len(sample)})
    return [folder / f"{name}.parquet", folder / f"{name}.json", *outputs]


def compare(
    run: RunContext, name: str, sample: Sequence[Request], shown: dict[int, dict[str, str]]
) -> tuple[pd.DataFrame, list[Path]]:
    """Draw what the sampled requests' users would be shown at each level, and measure it.

    Parameters
    ----------
    run, name
        The run, and a generator that has drawn its requests.
    sample
        Some of the run's requests.
    shown
        By level for every user whose creatives the user is shown; with `OWN` the user's own.

    Returns
    -------
    A row per level and request, see `recgen.metrics.sharing.curve`, and the files of what was drawn.
    """
    rows, embeddings = drawn(run, name)
    there = set(zip(rows["user_id"], rows["item_id"], strict=True))
    asked = [each for each in _asked(run, shown, sample) if (each.user_id, each.item_id) not in there]
    more, their_embeddings, outputs = _drawn(run, CurveChunks(run, name, asked))
    rows, embeddings = (
        pd.concat([rows, more], ignore_index=True),
        np.concatenate([embeddings, their_embeddings]),
    )
    levels = [
        _level(run, name, sample, of, rows, embeddings).assign(level=level) for level, of in shown.items()
    ]
    return pd.concat(levels, ignore_index=True), outputs


def sampled(run: RunContext, count: int) -> list[Request]:
    """Return some of the run's requests, those first in an order that the seed gives."""
    by_key = {f"{each.user_id}\x1f{each.item_id}": each for each in run.requests}
    return [by_key[key] for key in in_order(by_key, run.settings.seed, "requests to compare sharing")[:count]]


def who(run: RunContext, level: int, points: np.ndarray) -> dict[str, str]:
    """Return for every user whose creatives the user is shown where there are so many groups; with `OWN` the user's own.

    `points` are what users are clustered by, see `recgen.stages.groups.tastes`.
    """
    if level == sharing.OWN:
        return {user: user for user in run.data.user_ids}
    table = groups.grouped(run, points, level)
    return dict(zip(table["user_id"], table["representative"], strict=True))


def images_of(requests: Sequence[Request], shown: dict[str, str]) -> int:
    """Return how many images it takes to answer requests."""
    return len({(shown[request.user_id], request.item_id) for request in requests})


def _asked(run: RunContext, shown: dict[int, dict[str, str]], sample: Sequence[Request]) -> list[Request]:
    """Return what is to be drawn for all levels, each image once; own creatives as the run would ask for them."""
    own = {(each.user_id, each.item_id): each for each in sample}
    found: dict[Pair, Request] = {}
    for level, of in shown.items():
        if level != sharing.OWN:
            found |= {(each.user_id, each.item_id): each for each in groups.of_groups(run, of, sample)}
    return list({**found, **own}.values())


class CurveChunks(Chunks):
    """What has to be drawn beside the run's own creatives, in chunks below the folder ``groups``."""

    def __init__(self, run: RunContext, name: str, asked: Sequence[Request]) -> None:
        super().__init__(run, name)
        self._wanted = asked

    @property
    def asked(self) -> Sequence[Request]:
        """What is drawn, in order."""
        return self._wanted

    @cached_property
    def _drawer(self) -> Drawer:
        return Drawer(self.run, self.name)

    def table(self, number: int) -> Path:
        """Return where a chunk's table is."""
        return self.run.folder / f"groups/shards/{self.name}/{number:07d}.parquet"

    def make(self, block: Sequence[Request], shard: str | None) -> tuple[pd.DataFrame, np.ndarray]:
        """Draw and write the images of some requests."""
        return keep(self.run, self.name, self._drawer.draw(block), "groups", shard)


def _drawn(run: RunContext, chunks: CurveChunks) -> tuple[pd.DataFrame, np.ndarray, list[Path]]:
    """Draw the chunks that are not finished; return all rows, raw embeddings ``[n, D]`` and files."""
    tables, parts, outputs = [], [], []
    for number in range(len(chunks)):
        if chunks.finished(number) is None:
            chunks.draw(number)
        show(f"{chunks.name}: chunks to compare sharing", number + 1, len(chunks))
        tables.append(pd.read_parquet(chunks.table(number)))
        parts.append(read_features(chunks.table(number).with_suffix(".safetensors")))
        outputs += chunks.files(number, tables[-1])
    none = np.zeros((0, run.models.encoder.dim), np.float32)
    return pd.concat([pd.DataFrame(), *tables], ignore_index=True), np.concatenate([none, *parts]), outputs


def _level(
    run: RunContext,
    name: str,
    sample: Sequence[Request],
    shown: dict[str, str],
    rows: pd.DataFrame,
    embeddings: np.ndarray,
) -> pd.DataFrame:
    """Measure what the sampled requests' users would be shown."""
    places = {pair: row for row, pair in enumerate(zip(rows["user_id"], rows["item_id"], strict=True))}
    chosen = [places[shown[each.user_id], each.item_id] for each in sample]
    paths = [run.folder / path for path in rows["path"].iloc[chosen]]
    users, items = ([getattr(each, key) for each in sample] for key in ("user_id", "item_id"))
    made = CreativeBatch(
        name, users, items, [[] for _ in users], np.array([run.data.item_rows[item] for item in items]), paths,
        embeddings[chosen], [encoder.files(paths) for encoder in run.models.judge_encoders] or [embeddings[chosen]],
    )  # fmt: skip
    columns: dict[str, Any] = {**by_rankers(run, made), **by_truth(run, made), **by_verifier(run, made)[0]}
    kept = {key: columns[key] for key in sharing.METRICS if key in columns}
    return pd.DataFrame({"user_id": users, "item_id": items, **kept})
