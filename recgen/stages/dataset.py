"""The dataset stage: what RecBole makes of the atomic files, written as the run's tables, with an image per item.

Writes dataset/items.parquet, interactions.parquet, bad_images.json, requests.parquet and, where images are rendered,
dataset/images. Filtering, numbering and splitting are RecBole's; the times, the texts and the dislikes come from
the atomic files themselves, because RecBole normalises the first and drops the last.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen.core.errors import UserError
from recgen.core.io import flush, write_bytes, write_json, write_parquet
from recgen.core.seeding import seed_for
from recgen.data.atomic import read_atomic
from recgen.data.catalogue import images, texts
from recgen.data.convert.target import PROVENANCE
from recgen.pipeline.context import RunContext

HISTORY = 20  # RAGAR's longest history


def build(run: RunContext) -> list[Path]:
    """Run the stage and return what it wrote."""
    if run.settings.simulator is not None:
        _simulate(run)
    folder = run.folder / "dataset"
    raw = _interactions_file(run)
    likes, user_order, item_ids = _split_likes(run, raw)
    likes = _ordered(likes, user_order)
    references = likes[likes["split"] == "test"].drop_duplicates("user_id", keep="last")
    table = _ordered(pd.concat([likes, _dislikes(run, raw, user_order, item_ids, references)]), user_order)
    table = table[["user_id", "item_id", "rating", "timestamp", "like", "split"]]
    catalogue = _item_file(run)
    found, bad = images(run, item_ids, catalogue)
    items = pd.DataFrame({"item_id": item_ids, "text": texts(run, item_ids, catalogue), "image": found})
    _keep_truth(run)
    _keep_provenance(run)
    write_json(folder / "bad_images.json", bad)
    write_parquet(folder / "items.parquet", items)
    write_parquet(folder / "interactions.parquet", table)
    flush()
    return [folder / name for name in ("items.parquet", "interactions.parquet", "bad_images.json")]


def _simulate(run: RunContext) -> None:
    """Make the simulated data set inside the run's folder, and put its truth where only evaluation looks."""
    from recgen.data.simulation.overlay import overlay
    from recgen.data.simulation.simulator import simulate

    size = run.settings.simulator
    assert size is not None
    if run.simulator_base is not None:
        overlay(run.simulator_base, run.source, size.seed, run.settings.like_threshold or 4.0, run.separator)
        return
    simulate(run.source, size.users, size.items, size.seed, size.interactions_per_user, size.tastes_per_user)


def _keep_truth(run: RunContext) -> None:
    """Copy a simulated data set's truth, if it has one, to dataset/simulator, which generators and rankers never read."""
    truth = run.source / "simulator"
    if truth.is_dir():
        shutil.copytree(truth, run.folder / "dataset/simulator", dirs_exist_ok=True)


def _keep_provenance(run: RunContext) -> None:
    """Copy what a converter noted about the data set, for the report."""
    note = run.source / PROVENANCE
    if note.is_file():
        write_bytes(run.folder / "dataset" / PROVENANCE, note.read_bytes())


def _interactions_file(run: RunContext) -> pd.DataFrame:
    """Read the whole `.inter` file with columns user_id, item_id, rating and timestamp (NaN where it has none)."""
    keys = run.config.recbole
    user, item = keys.get("USER_ID_FIELD", "user_id"), keys.get("ITEM_ID_FIELD", "item_id")
    rating, time = keys.get("RATING_FIELD", "rating"), keys.get("TIME_FIELD", "timestamp")
    path = run.source / f"{keys['dataset']}.inter"
    by_time = "eval_args" not in keys or (keys["eval_args"] or {}).get("order") == "TO"
    table = read_atomic(path, run.separator, [user, item, *([time] if by_time else [])])
    if "RATING_FIELD" in keys and rating not in table:
        read_atomic(path, run.separator, [rating])
    table = table.rename(columns={user: "user_id", item: "item_id", rating: "rating", time: "timestamp"})
    for name in ("rating", "timestamp"):
        table[name] = (
            pd.to_numeric(table[name], errors="coerce").astype("float64") if name in table else np.nan
        )
    return table[["user_id", "item_id", "rating", "timestamp"]]


def _split_likes(run: RunContext, raw: pd.DataFrame) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return RecBole's interactions, oldest first within a user, with our own times, and its users and items in order."""
    parts = run.split
    whole = parts.whole
    frames = []
    for name in ("train", "valid", "test"):
        rows = getattr(parts, name).inter_feat
        tokens = {
            "user_id": whole.id2token(whole.uid_field, rows[whole.uid_field].numpy()),
            "item_id": whole.id2token(whole.iid_field, rows[whole.iid_field].numpy()),
        }
        frames.append(pd.DataFrame(tokens).assign(split=name))
    likes = _with_raw_values(pd.concat(frames, ignore_index=True), raw).assign(like=True)
    users = whole.field2id_token[whole.uid_field][1:].tolist()
    return likes, users, whole.field2id_token[whole.iid_field][1:].tolist()


def _with_raw_values(likes: pd.DataFrame, raw: pd.DataFrame) -> pd.DataFrame:
    """Give each interaction its rating and time: the n-th of a (user, item) pair is the file's n-th in time."""
    pair = ["user_id", "item_id"]
    raw = raw.sort_values("timestamp", kind="stable")
    kept = raw.merge(likes[pair].drop_duplicates(), on=pair)
    return likes.assign(turn=likes.groupby(pair).cumcount()).merge(
        kept.assign(turn=kept.groupby(pair).cumcount()), on=[*pair, "turn"], how="left", validate="one_to_one"
    )


def _dislikes(
    run: RunContext, raw: pd.DataFrame, users: list[str], items: list[str], references: pd.DataFrame
) -> pd.DataFrame:
    """Return the ratings below the threshold that came before their user's reference; RecBole has dropped them."""
    threshold = run.settings.like_threshold
    if threshold is None:
        return raw.iloc[:0].assign(split="none", like=False)
    below = raw[(raw["rating"] < threshold) & raw["user_id"].isin(users) & raw["item_id"].isin(items)]
    limit = below["user_id"].map(references.set_index("user_id")["timestamp"]).fillna(np.inf)
    earlier = below["timestamp"].isna() | (below["timestamp"] < limit)
    return below[earlier].assign(split="none", like=False)


def _ordered(table: pd.DataFrame, users: list[str]) -> pd.DataFrame:
    """Sort by user in RecBole's order, then by time; what has no time stays in the order it came in."""
    rank = {token: row for row, token in enumerate(users)}
    return table.assign(rank=table["user_id"].map(rank)).sort_values(["rank", "timestamp"], kind="stable")


def choose(run: RunContext) -> list[Path]:
    """Write dataset/requests.parquet: one request per user with a reference, or as many as are wanted.

    The reference is the user's last test item. Which users are chosen follows from the seed and each user alone, so that
    asking for more adds users and changes none. The history is what the user liked before, at most 20 items.
    """
    seed, wanted = run.settings.seed, run.settings.requests
    likes = run.interactions[run.interactions["like"] & (run.interactions["split"] != "none")]
    users = {
        str(user): rows
        for user, rows in likes.groupby("user_id", sort=False)
        if (rows["split"] == "test").any()
    }
    chosen = sorted(users, key=lambda user: seed_for(seed, "chosen for a request", user))[:wanted]
    rows = [_request(seed, user, users[user]) for user in users if user in set(chosen)]
    path = run.folder / "dataset/requests.parquet"
    write_parquet(path, pd.DataFrame(rows, columns=["user_id", "item_id", "seed", "history"]))
    return [path]


def _request(seed: int, user: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Return the request of one user from the user's liked interactions, oldest first."""
    last = int(np.flatnonzero(rows["split"] == "test")[-1])
    reference = str(rows["item_id"].iloc[last])
    earlier = dict.fromkeys(rows["item_id"].iloc[:last])
    history = [item for item in earlier if item != reference][-HISTORY:]
    draw = seed_for(seed, "request", user, reference)
    return {"user_id": user, "item_id": reference, "seed": draw, "history": history}


def _item_file(run: RunContext) -> pd.DataFrame:
    """Read the `.item` file, indexed by item token; an empty table where the data set has none."""
    keys = run.config.recbole
    path, key = run.source / f"{keys['dataset']}.item", keys.get("ITEM_ID_FIELD", "item_id")
    if not path.exists():
        return pd.DataFrame(index=pd.Index([], name=key))
    table = read_atomic(path, run.separator, [key])
    twice = table[key].duplicated(keep=False)
    if twice.any():
        first = table[key][twice].iloc[0]
        rows = ", ".join(str(row + 2) for row in np.flatnonzero(table[key] == first)[:5])
        raise UserError(
            f"{path}, rows {rows}", found=f"{key} {first!r} more than once", expected="one row per item"
        )
    return table.set_index(key)
