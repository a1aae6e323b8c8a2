"""What the market's arms show: the items' own images, creatives drawn when a page first needs them, and two controls.

A creative of a user and an item is drawn once, whatever the round, the world or the repetition, and kept in market/creatives.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from generators.controls.images import Constant
from recgen.assets import asset_folder
from recgen.core.io import digest, identity, read_json, sync, write_json, write_parquet
from recgen.core.progress import show
from recgen.core.seeding import seed_for
from recgen.data.requests import request_of
from recgen.data.simulation.attribute_reader import AttributeReader
from recgen.data.simulation.attributes import NAMES
from recgen.data.simulation.factors import FACTORS
from recgen.data.simulation.market import Images
from recgen.data.simulation.simulator import Truth
from recgen.data.types import Request
from recgen.pipeline.context import RunContext
from recgen.stages.chunks import damaged_images
from recgen.stages.generate import Drawer, write_image
from recgen.stages.groups import shown_to
from recgen.stages.ranker import reward_model

FOLDER = "market"
SWAPPED, CONSTANT = "swapped.", "constant"


class TrueTaste:
    """What the users of a simulation truly think of images, the items' own and drawn ones."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self._reader: AttributeReader | None = None

    def of_own(self, users: Sequence[str], items: Sequence[str]) -> np.ndarray:
        """Return each user's utility of an item's own image, float64 ``[n]``."""
        return self.truth.utility(users, self.truth.attributes_of(items), self.truth.factors_of(items))

    def read(self, images: Sequence[Image.Image]) -> pd.DataFrame:
        """Return what images show, one row each: attributes, and factors in degrees."""
        self._reader = self._reader or AttributeReader.load(asset_folder("attribute-reader"))
        attributes, factors = self._reader.look(images)
        tables = (pd.DataFrame(attributes, columns=list(NAMES)), pd.DataFrame(factors, columns=list(FACTORS)))
        return pd.concat(tables, axis=1)

    def of_read(self, users: Sequence[str], read: pd.DataFrame) -> np.ndarray:
        """Return each user's utility of an image that was read, float64 ``[n]``."""
        attributes = read[list(NAMES)].to_numpy(dtype=np.int64)
        return self.truth.utility(users, attributes, read[list(FACTORS)].to_numpy())


def original(taste: TrueTaste) -> Images:
    """Return the arm of the items' own images."""
    return lambda users, items: (taste.of_own(users, items), [""] * len(users))


def constant(run: RunContext, taste: TrueTaste) -> Images:
    """Return the arm that shows everybody one image for everything, the one that the reward likes best on other users."""
    kind: Any = Constant  # it draws nothing, so it needs no backbone
    control = kind(kind.Config(), None, run.models.encoder)
    control.fit(run.data, reward=reward_model(run, "reward"))

    def shown(users: Sequence[str], items: Sequence[str]) -> tuple[np.ndarray, list[str]]:
        rows = [control.row(user, run.data) for user in users]
        paths = [run.items["image"].iloc[row] for row in rows]
        return taste.of_own(users, [run.data.item_ids[row] for row in rows]), [str(path) for path in paths]

    return shown


def own(store: CreativeStore, taste: TrueTaste) -> Images:
    """Return the arm of a generator: each user sees the creatives made for that user."""
    return lambda users, items: _shown(store, taste, users, users, items)


def swapped(store: CreativeStore, taste: TrueTaste, users: Sequence[str], run_seed: int) -> Images:
    """Return the arm of a generator in which each user sees the creatives made for another one, always the same."""
    ring = sorted(users, key=lambda user: seed_for(run_seed, "market swapped", user))
    donor = dict(zip(ring, [*ring[1:], ring[0]], strict=True))
    return lambda users, items: _shown(store, taste, users, [donor[user] for user in users], items)


def _shown(
    store: CreativeStore,
    taste: TrueTaste,
    users: Sequence[str],
    made_for: Sequence[str],
    items: Sequence[str],
) -> tuple[np.ndarray, list[str]]:
    rows = store.get(made_for, items)
    return taste.of_read(users, rows), rows["path"].tolist()


class CreativeStore:
    """A generator's creatives for the market, drawn when they are first asked for.

    Parameters
    ----------
    run
        The run, whose generator is fitted.
    name
        The generator.
    read
        Says what images show, `TrueTaste.read`.
    """

    def __init__(
        self, run: RunContext, name: str, read: Callable[[Sequence[Image.Image]], pd.DataFrame]
    ) -> None:
        self.run, self.name, self.read = run, name, read
        self.folder = run.folder / FOLDER / "creatives" / name
        self._drawer = Drawer(run, name)
        self._keep_only_own()
        tables = [pd.read_parquet(path) for path in self._shards()]
        self.table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        if len(self.table):
            damaged = damaged_images(run.folder, self.table)
            self.table = self.table[~self.table["path"].isin(damaged)]
            self.table = self.table.drop_duplicates(["user_id", "item_id"], keep="last", ignore_index=True)

    def get(self, users: Sequence[str], items: Sequence[str]) -> pd.DataFrame:
        """Return the rows of creatives, one per pair, in order: path (below the run's folder) and what the image shows."""
        users = shown_to(self.run, users)
        pairs = pd.MultiIndex.from_arrays([users, list(items)], names=["user_id", "item_id"])
        absent = pairs.unique()
        if len(self.table):
            absent = absent.difference(pd.MultiIndex.from_frame(self.table[["user_id", "item_id"]]))
        if len(absent):
            self._draw([self._request(user, item) for user, item in sorted(absent)])
        return self.table.set_index(["user_id", "item_id"]).loc[pairs].reset_index()

    def _draw(self, requests: Sequence[Request]) -> None:
        size = self.run.settings.shard_size
        for start in range(0, len(requests), size):
            rows = self._shard(requests[start : start + size])
            sync(self.run.folder / path for path in rows["path"])
            write_parquet(self.folder / f"{len(self._shards()):07d}.parquet", rows)
            self.table = pd.concat([self.table, rows], ignore_index=True)
            show(f"market: creatives of {self.name}", min(start + size, len(requests)), len(requests))

    def _shard(self, requests: Sequence[Request]) -> pd.DataFrame:
        run, made = self.run, self._drawer.draw(requests)
        rows = pd.DataFrame([write_image(run, self.name, each, f"{FOLDER}/creatives") for each in made])
        return pd.concat([rows, self.read([each.image for each in made])], axis=1)

    def _request(self, user: str, item: str) -> Request:
        table = self.run.interactions
        likes = table[(table["user_id"] == user) & table["like"] & table["split"].isin(["train", "valid"])]
        row = request_of(self.run.settings.seed, user, item, likes["item_id"])
        return Request(user, item, row["seed"], tuple(row["history"]))

    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def _keep_only_own(self) -> None:
        """Remove what the generator drew before it was fitted otherwise, or read by another reader."""
        spec = self.run.config.generators[self.name]
        fit = read_json(self.run.workspace.record(f"generator.fit/{self.name}")) or {}
        source = digest(
            [fit.get("fingerprint"), spec.draw_settings, identity(asset_folder("attribute-reader"))]
        )
        path = self.folder / "source.json"
        if (read_json(path) or {}).get("source") != source:
            for folder in (self.folder, self.folder.parent / "images" / self.name):
                shutil.rmtree(folder, ignore_errors=True)
            write_json(path, {"source": source})
