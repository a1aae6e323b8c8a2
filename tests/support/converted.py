"""Reads what a converter wrote, as pandas and RecBole read it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd

from recgen.data.atomic import read_atomic


def table(folder: Path, ending: str) -> pd.DataFrame:
    """An atomic file of a data set, every value a string; read by recgen's own reader too, which must agree."""
    path = folder / f"{folder.name}.{ending}"
    found = pd.read_csv(path, sep="\t", dtype=str, engine="python", keep_default_na=False)
    found.columns = pd.Index([name.split(":")[0] for name in found.columns])
    assert len(read_atomic(path, "\t", list(found.columns))) == len(found)
    return found


def histories(folder: Path) -> dict[str, list[str]]:
    """The items of each user in the order of their times, which is the order of the file."""
    rows = table(folder, "inter")
    times = rows["timestamp"].astype(float)
    assert all(times[group.index].is_monotonic_increasing for _, group in rows.groupby("user_id"))
    return {str(user): group["item_id"].tolist() for user, group in rows.groupby("user_id", sort=False)}


def dropped(folder: Path) -> dict[str, int]:
    """Counts of what was dropped by "what: why"."""
    entries = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["dropped"]
    return {f"{entry['what']}: {entry['why']}": entry["count"] for entry in entries}


def kept(folder: Path) -> dict[str, int]:
    """Counts of what was kept."""
    return json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["kept"]


def images(folder: Path) -> dict[str, str]:
    """File names of images by item."""
    with (folder / "images.csv").open(encoding="utf-8", newline="") as file:
        return {row["item_id"]: row["file"] for row in csv.DictReader(file)}
