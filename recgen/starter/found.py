"""What is in a folder: atomic files, MovieLens, or anybody's tables; which column is what; where the images are."""

from __future__ import annotations

import csv
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from recgen.core.errors import UserError
from recgen.data.images import ENDINGS

_SYNONYMS = {
    "user_id": "user userid uid customer customerid memberid reviewer reviewerid accountid",
    "item_id": "item itemid iid movie movieid product productid asin article articleid sku book bookid newsid songid",
    "rating": "rating ratings stars score overall like liked",
    "timestamp": "timestamp time date datetime ts unixreviewtime createdat",
    "image": "image imagefile imagepath file filename picture photo path",
    "image_url": "imageurl url pictureurl imurl posterurl",
}
"""Names, in small letters without signs between, that columns of tables have, by ours."""
_MOVIELENS = ({"u.data", "u.item"}, {"ratings.dat", "movies.dat"}, {"ratings.csv", "movies.csv"})


@dataclass(frozen=True)
class Table:
    """A table: its file, and its columns' names by what they are to us; others keep their own."""

    path: Path
    columns: dict[str, str]
    header: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return what its columns were taken for: ``ratings.csv: user_id, isbn as item_id; others: shop``."""
        known = [own if own == ours else f"{own} as {ours}" for ours, own in self.columns.items()]
        others = [name for name in self.header if name not in self.columns.values()]
        return f"{self.path.name}: {', '.join(known)}{'; others: ' if others else ''}{', '.join(others)}"


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes
    ----------
    kind
        ``atomic``, ``movielens`` or ``tables``.
    folder
        The folder.
    log, items
        The tables of interactions and of items (tables only; there may be none of items).
    images
        A folder or zip of images named by item, or None.
    """

    kind: str
    folder: Path
    log: Table | None = None
    items: Table | None = None
    images: Path | None = None

    def lines(self) -> list[str]:
        """Return what was taken for what, a line for each table and one for the images."""
        told = [table.line() for table in (self.log, self.items) if table is not None]
        if self.images is not None:
            return [*told, f"images: {self.images}"]
        rendered = "images: none, so posters of the films' genres are rendered; --images takes real ones, named by movie id"
        return [*told, rendered] if self.kind == "movielens" else told


def look(folder: Path, images: Path | None = None) -> Found:
    """Find out what a folder holds.

    Parameters
    ----------
    folder
        The folder.
    images
        Where the images are, if the user says; else they are looked for in the folder.

    Raises
    ------
    UserError
        If there is no folder, or no table in it that says which user met which item.
    """
    if not folder.is_dir():
        raise UserError(
            f"recgen init {folder}", found="no such folder", expected="a folder of tables and images"
        )
    if images is not None and not images.exists():
        raise UserError(f"--images {images}", found="nothing there", expected="a folder or zip of images")
    images = images or _images(folder)
    names = {path.name for path in folder.iterdir()}
    if any(name.endswith(".inter") for name in names):
        return Found("atomic", folder, images=images)
    if any(wanted <= names for wanted in _MOVIELENS):
        return Found("movielens", folder, images=images)
    tables = [
        _table(path)
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in (".csv", ".tsv", ".parquet")
    ]
    logs = [table for table in tables if {"user_id", "item_id"} <= table.columns.keys()]
    if not logs:
        raise UserError(
            f"recgen init {folder}",
            found="; ".join(f"{table.path.name}: {', '.join(table.header[:8])}" for table in tables)
            or "no tables",
            expected="a CSV or Parquet table of interactions with a column of users and one of items",
            todo="Name its columns user_id and item_id (and rating, timestamp where there are).",
        )
    log = max(logs, key=lambda table: ("rating" in table.columns, table.path.stat().st_size))
    others = [table for table in tables if table not in logs and "item_id" in table.columns]
    items = max(others, key=lambda table: len(table.header)) if others else None
    return Found("tables", folder, log, items, images)


def _images(folder: Path) -> Path | None:
    """Return the folder with the most images, it or one in it, or a zip of images; None where there are none."""
    places = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())]
    counts = {place: sum(file.suffix.lower() in ENDINGS for file in place.iterdir()) for place in places}
    best = max(counts, key=lambda place: counts[place])
    if counts[best]:
        return best
    return next((path for path in sorted(folder.glob("*.zip")) if _holds_images(path)), None)


def _holds_images(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(PurePosixPath(name).suffix.lower() in ENDINGS for name in archive.namelist())


def _table(path: Path) -> Table:
    header = _header(path)
    known = {ours: {ours.replace("_", ""), *words.split()} for ours, words in _SYNONYMS.items()}
    columns: dict[str, str] = {}
    for name in header:
        plain = re.sub(r"[^a-z0-9]", "", name.lower())
        ours = next((ours for ours, words in known.items() if plain in words and ours not in columns), None)
        if ours is not None:
            columns[ours] = name
    if "item_id" not in columns and "user_id" not in columns:
        bare = next((name for name in header if name.lower() == "id"), None)  # a table of items, by itself
        columns |= {} if bare is None else {"item_id": bare}
    return Table(path, columns, header)


def _header(path: Path) -> list[str]:
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet

        try:
            return list(pyarrow.parquet.read_schema(path).names)
        except (OSError, ValueError) as error:
            raise UserError(str(path), found=str(error).splitlines()[0], expected="a Parquet file") from error
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file, delimiter=delimiter(path)), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(str(path), found=str(error), expected="a table in UTF-8") from error


def delimiter(path: Path) -> str:
    """Return what separates the columns of a text table: what its first line has most of, of commas, semicolons and tabs."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline()
    return max(",;\t|", key=first.count)
