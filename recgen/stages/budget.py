"""Which of the run's requests are drawn when there is a budget of images; see `recgen.metrics.budget`.

Before anything is drawn the gain of an image for a user is predicted by how much better than the item's own image the best of
the catalogue suits the user: the scores that `taste` asks, net of content (`recgen.stages.groups`), of the items that suit the
user best less that of the item. It is the same for all generators, which can then be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recgen.core.errors import UserError, brief
from recgen.core.io import read_table, write_parquet
from recgen.data.types import Request
from recgen.metrics import budget
from recgen.pipeline.context import RunContext
from recgen.pipeline.groups import plan
from recgen.stages import groups

TABLE = "creatives/budget.parquet"
BEST = 10
"""Items that suit a user best, whose mean score stands for what an image can reach."""


def choose(run: RunContext) -> list[Path]:
    """Write creatives/budget.parquet: of each request its predicted gain, its traffic and whether it is drawn.

    Columns: user_id, item_id, image (of whom it would be, and of which item), gain, traffic, and chosen (bool).
    """
    settings = run.settings.budget
    assert settings is not None
    requests = run.asked_for
    shown = groups.representatives(run) if plan(run.settings).shares else None
    table = pd.DataFrame({
        "user_id": [each.user_id for each in requests],
        "item_id": [each.item_id for each in requests],
        "gain": predicted(run, requests),
        "traffic": traffic(run, requests),
    })  # fmt: skip
    users = table["user_id"] if shown is None else table["user_id"].map(shown)
    table["image"] = users + "\x1f" + table["item_id"]
    images, value = budget.values(table["image"].tolist(), table["gain"], table["traffic"])
    first = budget.order(value)[: settings.images]
    table["chosen"] = table["image"].isin([images[place] for place in first])
    write_parquet(run.folder / TABLE, table)
    return [run.folder / TABLE]


def predicted(run: RunContext, requests: Sequence[Request]) -> np.ndarray:
    """Return what an image could gain for each request's user over the item's own, in the units of `taste`'s scores, ``[n]``."""
    asked, catalogue = groups.asking(run)[:2]
    rows = run.data.item_rows
    positions = catalogue.positions(np.array([rows[each.item_id] for each in requests], dtype=np.int64))
    users = [run.data.user_rows.get(each.user_id, -1) for each in requests]
    best = min(BEST, len(catalogue.rows))
    found = np.zeros(len(requests))
    for part in asked.chunks(len(requests)):
        net = asked.ask(users[part], np.full(len(users[part]), -1))[0]
        top = np.partition(net, -best, axis=1)[:, -best:].mean(axis=1)
        own = np.where(positions[part] >= 0, net[np.arange(len(net)), positions[part]], 0.0)
        found[part] = top - own
    return found


def traffic(run: RunContext, requests: Sequence[Request]) -> np.ndarray:
    """Return how often each request's user sees the item, relative to the mean over requests, float64 ``[n]``."""
    settings = run.settings.budget
    assert settings is not None
    if settings.traffic is None:
        known = run.data.interactions
        by_user, by_item = (known[column].value_counts() for column in ("user", "item"))
        users = [by_user.get(run.data.user_rows[each.user_id], 0) for each in requests]
        items = [by_item.get(run.data.item_rows[each.item_id], 0) for each in requests]
        found = (np.array(users) + 1.0) * (np.array(items) + 1.0)
    else:
        found = _given(Path(settings.traffic), requests, f"{run.config.source}: recgen.budget.traffic")
    mean = found.mean() if len(found) else 1.0
    return found / mean if mean > 0 else found


def _given(path: Path, requests: Sequence[Request], where: str) -> np.ndarray:
    """Return views from a table of the user's; 0 for what it does not name."""
    if not path.is_file():
        raise UserError(where, found=f"no file {path}", expected="a table of item_id and views")
    try:
        table = (
            read_table(path)
            if path.suffix == ".parquet"
            else pd.read_csv(path, dtype={"user_id": str, "item_id": str})
        )
    except ValueError as error:  # pandas' and pyarrow's, of what is no table
        raise UserError(
            str(path), found=brief(error), expected="a CSV or Parquet table of item_id and views"
        ) from error
    absent = [name for name in ("item_id", "views") if name not in table]
    if absent:
        raise UserError(str(path), found=f"no column {absent[0]!r}", expected="columns item_id and views")
    numbers = pd.to_numeric(table["views"], errors="coerce")
    bad = ~(np.isfinite(numbers) & (numbers >= 0)).to_numpy()
    if bad.any():
        row = int(bad.argmax())
        raise UserError(
            f"{path}, row {row + 2}, views",  # as the lines of a CSV count
            found=repr(table["views"].iloc[row]),
            expected="a number from 0 up",
        )
    keys = ["user_id", "item_id"] if "user_id" in table else ["item_id"]
    known = table.assign(views=numbers, **{key: table[key].astype(str) for key in keys})
    views = known.groupby(keys)["views"].sum()
    asked = pd.DataFrame([(each.user_id, each.item_id) for each in requests], columns=["user_id", "item_id"])
    index = pd.MultiIndex.from_frame(asked) if len(keys) == 2 else pd.Index(asked["item_id"])
    return views.reindex(index).fillna(0.0).to_numpy(dtype=np.float64)
