"""The downstream stage's creatives: which are asked for, and their embeddings; the images themselves are not kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from recgen.core.io import read_features, write_features, write_parquet
from recgen.core.progress import show
from recgen.data import draws, slates
from recgen.data.types import Request
from recgen.pipeline import downstream as plan
from recgen.pipeline.context import RunContext
from recgen.pipeline.groups import is_shared
from recgen.stages import groups
from recgen.stages.generate import Drawer

SLATE = "slate"
"""The kind of a request that is part of a list to rank again; the others are `recgen.data.draws.OWN` and `SWAPPED`."""


def choose(run: RunContext, turn: int) -> list[Path]:
    """Write downstream/draws/<turn>.parquet: the items of a draw, and for whom creatives of them are asked."""
    s, items = run.settings.downstream, run.items.loc[run.items["image"].notna(), "item_id"].tolist()
    path = run.folder / f"downstream/draws/{turn}.parquet"
    write_parquet(path, draws.draw(run.interactions, items, run.settings.seed, turn, s.items, s.per_item))
    return [path]


def chosen(run: RunContext, turn: int) -> pd.DataFrame:
    """Return what `choose` wrote."""
    return pd.read_parquet(run.folder / f"downstream/draws/{turn}.parquet")


def candidates(run: RunContext, turn: int) -> pd.DataFrame:
    """Return the lists of a draw, as `recgen.stages.rerank.choose` wrote them."""
    return pd.read_parquet(run.folder / f"downstream/slates/{turn}.parquet")


def create(run: RunContext, name: str, turn: int) -> list[Path]:
    """Draw one generator's creatives of one draw and write their embeddings, in shards that a kill leaves whole."""
    asked = requests(run, turn)
    size, drawer, outputs = run.settings.shard_size, Drawer(run, name), []
    for start in range(0, len(asked), size):
        table = _folder(run, name, turn) / f"{start:07d}.parquet"
        if not (table.exists() and table.with_suffix(".safetensors").exists()):
            block = asked.iloc[start : start + size]
            write_features(table.with_suffix(".safetensors"), _embeddings(drawer, block))
            write_parquet(table, block[["kind", "user_id", "item_id", "seed"]].reset_index(drop=True))
            show(f"{name}: creatives of draw {turn}", min(start + size, len(asked)), len(asked))
        outputs += [table, table.with_suffix(".safetensors")]
    return outputs


def requests(run: RunContext, turn: int) -> pd.DataFrame:
    """Return all requests of a draw: column kind, and those of `recgen.data.requests.COLUMNS`."""
    s, found = run.settings.downstream, []
    if s.items:
        found.append(chosen(run, turn))
    if plan.reranks(run.settings):
        lists = slates.requests_of(candidates(run, turn), run.interactions, run.settings.seed, turn)
        found.append(lists.assign(kind=SLATE))
    return pd.concat(found, ignore_index=True)


def created(run: RunContext, name: str, turn: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return rows (kind, user_id, item_id, seed) and raw embeddings float32 ``[n, D]`` of one generator's creatives of a draw."""
    tables = sorted(_folder(run, name, turn).glob("*.parquet"))
    rows = pd.concat([pd.read_parquet(path) for path in tables], ignore_index=True)
    return rows, np.concatenate([read_features(path.with_suffix(".safetensors")) for path in tables])


def _folder(run: RunContext, name: str, turn: int) -> Path:
    return run.folder / f"downstream/creatives/{name}/{turn}"


def _embeddings(drawer: Drawer, rows: pd.DataFrame) -> np.ndarray:
    """Return the raw embeddings float32 ``[n, D]`` of the creatives of some requests."""
    run = drawer.run
    asked = [
        Request(row["user_id"], row["item_id"], int(row["seed"]), tuple(row["history"]))
        for row in rows.to_dict("records")
    ]
    shares = is_shared(run, drawer.name)
    wanted = groups.of_groups(run, groups.representatives(run), asked) if shares else asked
    embeddings = run.models.encoder.images([creative.image for creative in drawer.draw(wanted)])
    if not shares:
        return embeddings
    table = pd.DataFrame([(each.user_id, each.item_id) for each in wanted], columns=["user_id", "item_id"])
    return groups.shared(run, asked, table, embeddings)[1]
