"""The dataset stage: what RecBole makes of the atomic files, written as the run's tables, with an image per item.

Writes dataset/items.parquet, interactions.parquet, bad_images.json, requests.parquet and, where images are rendered,
dataset/images. Filtering, numbering and splitting are RecBole's; the times, the texts and the dislikes come from
the atomic files themselves, because RecBole normalises the first and drops the last.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recgen.config.schema import Requests
from recgen.core.errors import UserError
from recgen.core.io import flush, write_bytes, write_json, write_large, write_parquet
from recgen.data import requests
from recgen.data.at_url import UrlFolder
from recgen.data.atomic import read_atomic
from recgen.data.catalogue import (
    IMAGE_FIELD,
    Bad,
    among,
    in_column,
    in_folder,
    item_texts,
    item_titles,
    read_image_names,
    render_posters,
    usable_images,
)
from recgen.data.convert.target import PROVENANCE
from recgen.pipeline.context import RunContext
from recgen.recommender import interactions

logger = logging.getLogger("recgen")


def build(run: RunContext) -> list[Path]:
    """Run the stage and return what it wrote."""
    if run.settings.simulator is not None:
        _simulate(run)
    folder = run.folder / "dataset"
    table, item_ids = interactions.assemble(_interactions_file(run), run.split, run.settings.like_threshold)
    catalogue = _item_file(run)
    found, bad = _images(run, item_ids, catalogue)
    texts = item_texts(item_ids, catalogue, _text_fields(run, catalogue), run.config.source)
    titles = item_titles(item_ids, catalogue)
    named = {} if titles is None else {"title": titles}
    items = pd.DataFrame({"item_id": item_ids, "text": texts, **named, "image": found})
    _keep_truth(run)
    _keep_provenance(run)
    write_json(folder / "bad_images.json", bad)
    write_parquet(folder / "items.parquet", items)
    write_large(folder / "interactions.parquet", table)
    flush()
    return [folder / name for name in ("items.parquet", "interactions.parquet", "bad_images.json")]


def _simulate(run: RunContext) -> None:
    """Make the simulated data set inside the run's folder, and put its truth where only evaluation looks."""
    from recgen.data.simulation.overlay import overlay
    from recgen.data.simulation.simulator import World, simulate

    made = run.settings.simulator
    assert made is not None
    base = run.inputs.simulator_base
    if base is not None:
        threshold = run.settings.like_threshold or 4.0
        overlay(base, run.source, made.seed, threshold, run.separator, made.tastes_in)
        return
    simulate(run.source, World(**made.model_dump(include=set(World.__dataclass_fields__))), made.seed)


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
    loaded = loaded_columns(keys, "inter")
    needed = dict.fromkeys([user, item, *([time] if by_time else []), *loaded])
    fields = (user, item, rating, time)
    table = read_atomic(path, run.separator, list(needed), [user, item], coded=[user, item], only=fields)
    if run.settings.like_threshold is not None and rating not in table:
        logger.warning(
            "%s: recgen.like_threshold is %g, and there is no column %r: every interaction counts as a like",
            path,
            run.settings.like_threshold,
            rating,
        )
    if "RATING_FIELD" in keys and rating not in table:
        read_atomic(path, run.separator, [rating])
    columns: dict[str, Any] = {"user_id": table.pop(user), "item_id": table.pop(item)}
    for name, field in (("rating", rating), ("timestamp", time)):
        numbers = (
            pd.to_numeric(table[field], errors="coerce") if field in table else np.full(len(table), np.nan)
        )
        columns[name] = np.asarray(numbers, dtype=np.float64)
    return pd.DataFrame(columns, copy=False)


def _images(run: RunContext, item_ids: list[str], catalogue: pd.DataFrame) -> tuple[list[str | None], Bad]:
    """Return each item's image as items.parquet holds it, or None, and the images that cannot be used."""
    s, where, folder, at = run.settings, run.config.source, run.inputs.images_folder, run.inputs.images
    if s.images == "rendered" and s.simulator is None:
        files = render_posters(item_ids, catalogue, run.folder / "dataset/images", s.seed, where)
        return [str(path.relative_to(run.folder)) for path in files], []
    if folder is None:
        find = in_column(run.source, catalogue)
    else:
        table = run.inputs.image_ids
        names = None if table is None else read_image_names(table, where)
        find = in_folder(folder, names, where) if at is None else among(at.copies, names)
    if at is not None:
        at.bring(at.name_of(path) for path in map(find, item_ids) if path is not None)
    paths, bad = usable_images(item_ids, find, s.max_bad_images, where)
    root = run.folder.resolve()
    places = {path: None if path is None else _place(path, root, at) for path in set(paths)}
    return [places[path] for path in paths], bad


def _place(path: Path, root: Path, at: UrlFolder | None) -> str:
    """Return where an image is: its URL, or a path, relative to the run's folder `root` where it is under it."""
    if at is not None:
        return f"{at.url}/{at.name_of(path)}"
    path = path.resolve()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def choose(run: RunContext) -> list[Path]:
    """Write dataset/requests.parquet by the protocol of `recgen.requests`; see `recgen.data.requests`."""
    seed, plan = run.settings.seed, run.settings.requests
    table = run.coded_interactions()
    known = table[table["like"] & (table["split"] != "none")]
    if isinstance(plan, Requests) and plan.protocol == "blind":
        items = run.items.loc[run.items["image"].notna(), "item_id"].tolist()
        chosen = requests.blind(table, items, seed, plan.items, plan.per_item, plan.users)
    else:
        chosen = requests.last_likes(known, seed, plan.users if isinstance(plan, Requests) else plan)
    if isinstance(plan, Requests) and plan.held_out:
        chosen = requests.hold_out(chosen, known, seed, plan.held_out)
    path = run.folder / "dataset/requests.parquet"
    write_parquet(path, chosen)
    return [path]


def _text_fields(run: RunContext, catalogue: pd.DataFrame) -> list[str] | None:
    """Return the columns that make an item's text: `text_fields`, else those of words in `load_col.item`; None for all."""
    if run.settings.text_fields is not None:
        return run.settings.text_fields
    named = loaded_columns(run.config.recbole, "item")
    words = [
        name
        for name in named
        if name in catalogue and name != IMAGE_FIELD and catalogue[name].dtype == object
    ]
    return words or None


def loaded_columns(keys: Mapping[str, Any], kind: str) -> list[str]:
    """Return the columns that RecBole's `load_col` names for a kind of file, `inter` or `item`; none where it names no list."""
    loaded = keys.get("load_col")
    named = loaded.get(kind) if isinstance(loaded, Mapping) else None
    return list(named) if isinstance(named, list) else []


def _item_file(run: RunContext) -> pd.DataFrame:
    """Read the `.item` file, indexed by item token; an empty table where the data set has none."""
    keys = run.config.recbole
    path, key = run.source / f"{keys['dataset']}.item", keys.get("ITEM_ID_FIELD", "item_id")
    if not path.exists():
        return pd.DataFrame(index=pd.Index([], name=key))
    needed = dict.fromkeys([key, *loaded_columns(keys, "item")])
    table = read_atomic(path, run.separator, list(needed), ids=[key])
    twice = table[key].duplicated(keep=False)
    if twice.any():
        first = table[key][twice].iloc[0]
        rows = ", ".join(str(row + 2) for row in np.flatnonzero(table[key] == first)[:5])
        raise UserError(
            f"{path}, rows {rows}", found=f"{key} {first!r} more than once", expected="one row per item"
        )
    return table.set_index(key)
