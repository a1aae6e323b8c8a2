"""Makes a RecBole data set of what was found, by the converters of `recgen data prepare`."""

from __future__ import annotations

import csv
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from recgen.core.errors import UserError
from recgen.data.convert import movielens, table
from recgen.data.convert.images import inside
from recgen.starter.found import Found, Table, delimiter

_MIN_LIKES = 3  # likes of a user: what a training, a validation and a test interaction take
_PARTS = frozenset("train training test testing val valid validation dev eval evaluation holdout".split())
_SAMPLE = 200_000  # ratings that the threshold is found from


@dataclass(frozen=True)
class Prepared:
    """A data set that a configuration can name.

    Attributes
    ----------
    folder
        Of the atomic files; its name is the data set's.
    images
        ``recgen.images``: a folder, ``rendered``, or None for a column of paths in `.item`.
    image_ids
        ``recgen.image_ids``, or None.
    texts
        Columns of `.item` that make a text, the most telling first.
    threshold
        ``recgen.like_threshold``: ratings from here up are likes, or None.
    summary
        What the converter says of it; "" for atomic files.
    """

    folder: Path
    images: str | None
    image_ids: Path | None
    texts: list[str]
    threshold: float | None
    summary: str = ""


def prepare(found: Found, data: Path) -> Prepared:
    """Make a data set of what was found in `data`, or take atomic files as they are.

    Raises
    ------
    UserError
        Where there are no images, or no user has enough likes.
    """
    if found.kind == "atomic":
        return _atomic(found)
    out = data / _name(found.folder)
    if found.kind == "movielens":
        made = movielens.prepare(found.folder, out, found.images, with_images_only=found.images is not None)
        images, ids = (str(out / "images"), out / "images.csv") if found.images else ("rendered", None)
        return Prepared(out, images, ids, ["class", "movie_title"], movielens.LIKE, made.summary())
    return _tables(found, out)


def _name(folder: Path) -> str:
    return re.sub(r"[^\w.-]", "-", folder.resolve().name) or "mine"


def _atomic(found: Found) -> Prepared:
    folder = found.folder.resolve()
    log = folder / f"{folder.name}.inter"
    if not log.is_file():
        there = ", ".join(path.name for path in sorted(folder.glob("*.inter")))
        raise UserError(
            f"recgen init {found.folder}", found=there, expected=f"{log.name}: RecBole's files are named as their folder",
            todo="Rename the folder or the files.",
        )  # fmt: skip
    from recgen.data.atomic import fields

    items = folder / f"{folder.name}.item"
    kinds = fields(items, "\t") if items.is_file() else {}
    if found.images is None and "image" not in kinds:
        raise _no_images(found)
    texts = [
        name
        for name, kind in kinds.items()
        if kind in ("token", "token_seq") and name not in ("item_id", "image")
    ]
    ratings = (row.get("rating:float", "") for row in _rows(log, "\t"))
    images = None if found.images is None else str(found.images)
    return Prepared(folder, images, None, texts, threshold(ratings))


def _tables(found: Found, out: Path) -> Prepared:
    assert found.log is not None
    has_images = found.images is not None or (
        found.items is not None and {"image", "image_url"} & found.items.columns.keys()
    )
    if not has_images:
        raise _no_images(found)
    likes = threshold(row.get(found.log.columns.get("rating", ""), "") for row in table_rows(found.log.path))
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / out.name
        raw.mkdir()
        texts = _stage(found, raw)
        made = table.prepare(
            raw,
            out,
            found.images,
            with_images_only=found.images is not None,
            like=likes,
            min_likes=_MIN_LIKES,
        )
    return Prepared(out, str(out / "images"), out / "images.csv", texts, likes, made.summary())


def _no_images(found: Found) -> UserError:
    return UserError(
        f"recgen init {found.folder}",
        found="no images",
        expected="a folder or zip of images named by item id, or a column image or image_url in the table of items",
        todo="Say where they are with --images.",
    )


def _stage(found: Found, raw: Path) -> list[str]:
    """Write the tables under the names and with the columns that the converter knows; return the items' columns of text."""
    assert found.log is not None
    _write(raw / "interactions.csv", _renamed(found.log, ("user_id", "item_id", "rating", "timestamp")))
    if found.items is None:
        met = dict.fromkeys(row["item_id"] for row in _renamed(found.log, ("item_id",)))
        _write(raw / "items.csv", ({"item_id": item, "title": item} for item in met))
        return ["title"]
    keep = {
        name: _identifier(name) for name in found.items.header if name not in found.items.columns.values()
    }
    rows = _renamed(found.items, ("item_id", "image", "image_url"), keep)
    _write(raw / "items.csv", _linked(rows, found.folder, raw / "linked"))
    return _telling(raw / "items.csv", list(keep.values()))


def _linked(rows: Iterable[dict[str, str]], folder: Path, links: Path) -> Iterator[dict[str, str]]:
    """Yield rows whose images are links in the staged folder, where the converter looks for them."""
    links.mkdir()
    for number, row in enumerate(rows):
        named = row.get("image", "").strip()
        image = inside(folder, named) if named else None
        if image is not None:
            link = links / f"{number}{image.suffix.lower()}"
            shutil.copyfile(image, link)
            row["image"] = f"{links.name}/{link.name}"
        yield row


def _identifier(name: str) -> str:
    plain = re.sub(r"\W+", "_", name.strip()).strip("_") or "column"
    return plain if plain.isidentifier() else f"_{plain}"


def _telling(items: Path, columns: list[str]) -> list[str]:
    """Return the columns that are words and no numbers, the shortest texts first: kinds, titles, descriptions.

    A column that says which part of the data a row belongs to (train, test) says nothing of the item.
    """
    lengths: dict[str, list[int]] = {name: [] for name in columns}
    parts = dict.fromkeys(columns, True)
    for number, row in enumerate(table_rows(items)):
        if number == 2_000:
            break
        for name in columns:
            if row[name] and not re.fullmatch(r"[-+\d.,:/ %]+|https?://\S+", row[name]):
                lengths[name].append(len(row[name]))
                parts[name] &= row[name].strip().lower() in _PARTS
    words = {name: sum(found) / len(found) for name, found in lengths.items() if found and not parts[name]}
    return sorted(words, key=lambda name: words[name])


def _renamed(
    given: Table, wanted: Iterable[str], more: dict[str, str] | None = None
) -> Iterator[dict[str, str]]:
    names = {given.columns[ours]: ours for ours in wanted if ours in given.columns} | (more or {})
    for row in table_rows(given.path):
        yield {ours: row.get(own) or "" for own, ours in names.items()}


def table_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV or Parquet table as text by column."""
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet

        for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                yield {name: "" if value is None else str(value) for name, value in row.items()}
        return
    yield from _rows(path, delimiter(path))


def _rows(path: Path, separator: str) -> Iterator[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file, delimiter=separator):
                yield {str(name): value if isinstance(value, str) else "" for name, value in row.items()}
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(str(path), found=str(error), expected="a table in UTF-8") from error


def _write(path: Path, rows: Iterable[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = None
        for row in rows:
            writer = writer or csv.DictWriter(file, list(row))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)


def threshold(ratings: Iterable[str]) -> float | None:
    """Return from which rating up an item counts as liked: four stars of five, and what is as far up on other scales.

    None where there are no ratings, or all are alike: then every interaction is a like.

    >>> threshold("3 4 5 1".split()), threshold("1 10 7 2".split()), threshold("0 1 1".split()), threshold("1 1".split())
    (4.0, 7.0, 1.0, None)
    """
    values: set[float] = set()
    for number, text in enumerate(ratings):
        if number == _SAMPLE:
            break
        try:
            values.add(float(text))
        except ValueError:
            continue
    if len(values) < 2:
        return None
    most, least = max(values), min(values)
    if most == 5:
        return 4.0
    return min(value for value in values if value >= least + 0.66 * (most - least))
