"""An item's text and image: where they come from, and what is done about the broken ones."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pandas as pd

from recgen.config.yaml_text import read_text
from recgen.core.errors import UserError, nearest
from recgen.core.io import write_bytes
from recgen.core.progress import show
from recgen.core.seeding import seed_for
from recgen.data.images import BadImageError, index_of, read_image

LONGEST_TEXT = 2_000  # characters; text encoders read some 77 words
IMAGE_FIELD = "image"
_NAMES = ("name", "item_name", "product_name", "full_name")
_BLOCK = 10_000  # images that wait to be looked at, each with a kilobyte of bookkeeping

Bad = list[dict[str, str]]
Finder = Callable[[str], Path | None]
"""From an item's token to its image file, if there is one."""


def item_texts(
    item_ids: Sequence[str], catalogue: pd.DataFrame, fields: Sequence[str] | None, where: str
) -> list[str]:
    """Return one text per item; the empty string for an item that is not in the catalogue.

    Parameters
    ----------
    item_ids
        The items' tokens.
    catalogue
        The `.item` file, indexed by token; see `recgen.data.atomic.read_atomic`.
    fields
        The columns that make the text, in order; None takes all that hold text.
    where
        Where `fields` was configured, for messages.

    Raises
    ------
    UserError
        For a field that is no column.
    """
    if fields is None:
        fields = [
            name for name in catalogue.columns if name != IMAGE_FIELD and catalogue[name].dtype == object
        ]
    for name in fields:
        if name not in catalogue.columns:
            raise UserError(
                f"{where}: recgen.text_fields",
                found=repr(name),
                expected=f"columns of .item: {', '.join(catalogue.columns)}",
                todo=nearest(name, catalogue.columns),
            )
    rows = catalogue[list(fields)].reindex(list(item_ids)).fillna("").astype(str)
    return [" ".join(" ".join(row).split())[:LONGEST_TEXT] for row in rows.to_numpy().tolist()]


def item_titles(item_ids: Sequence[str], catalogue: pd.DataFrame) -> list[str] | None:
    """Return what people call each item, "" where that is not known; None where no column of the catalogue says.

    An item's text may have its title somewhere beside much else (`item_texts`).
    """
    titles = [name for name in catalogue.columns if re.search(r"(^|_)title$", name.lower())]
    titles = titles or [name for name in catalogue.columns if name.lower() in _NAMES]
    if len(titles) != 1:
        return None
    found = catalogue[titles[0]].reindex(list(item_ids)).fillna("").tolist()
    return [" ".join(str(title).split())[:LONGEST_TEXT] for title in found]


def usable_images(
    item_ids: Sequence[str], find: Finder, max_bad: float, where: str
) -> tuple[list[Path | None], Bad]:
    """Return each item's image file or None, and the images that cannot be used: every file is decoded once.

    Parameters
    ----------
    item_ids
        The items' tokens.
    find
        See `in_folder` and `in_column`.
    max_bad
        The largest share of the images found that may be bad, 0 to 1.
    where
        The configuration, for messages.

    Raises
    ------
    UserError
        When more are bad, or no image is found at all.
    """
    paths = [find(token) for token in item_ids]
    files = list(dict.fromkeys(paths))
    found = dict(zip(files, _reasons(files), strict=True))
    reasons = [found[path] for path in paths]
    bad = [
        {"item_id": token, "file": str(path), "reason": reason}
        for token, path, reason in zip(item_ids, paths, reasons, strict=True)
        if path is not None and reason
    ]
    _check_share(bad, sum(path is not None for path in paths), max_bad, where)
    return [None if reason else path for path, reason in zip(paths, reasons, strict=True)], bad


def _check_share(bad: Bad, found: int, limit: float, where: str) -> None:
    if found == 0:
        raise UserError(
            f"{where}: recgen.images",
            found="no image of any item",
            expected="files named <item token>.jpg, .jpeg, .png or .webp",
            todo="Give a table of names with recgen.image_ids if the files are named otherwise.",
        )
    if len(bad) > limit * found:
        raise UserError(
            f"images: {bad[0]['file']} ({bad[0]['reason']}) and {len(bad) - 1} more",
            found=f"{len(bad)} of {found} images unusable",
            expected=f"at most {limit:.0%}",
            todo="Mend them, or raise recgen.max_bad_images.",
        )


def _reasons(paths: list[Path | None]) -> list[str]:
    """Read images and return what is wrong with each, the empty string where nothing is."""

    def reason(path: Path | None) -> str:
        try:
            if path is not None:
                read_image(path)
        except BadImageError as error:
            return str(error)
        return ""

    found: list[str] = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), _BLOCK):
            found += pool.map(reason, paths[start : start + _BLOCK])
    return found


def in_folder(folder: Path, names: Mapping[str, str] | None, where: str) -> Finder:
    """Return what finds the images of a folder: by the item's token, or by the name that `names` has for it.

    Raises
    ------
    UserError
        When there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{where}: recgen.images", found=f"no folder {folder}", expected="a folder of images")
    return among(folder.iterdir(), names)


def among(files: Iterable[Path], names: Mapping[str, str] | None) -> Finder:
    """Return what finds images among files of one folder: by the item's token, or by the name that `names` has for it."""
    index = index_of(files)

    def find(token: str) -> Path | None:
        stem = token if names is None else names.get(token)
        return None if stem is None else index.get(unicodedata.normalize("NFC", stem))

    return find


def in_column(root: Path, catalogue: pd.DataFrame) -> Finder:
    """Return what finds images by the `image:token` column of the catalogue: paths inside the data set's folder `root` only.

    Raises
    ------
    UserError
        When there is no such column; and, from what is returned, for a path outside `root`.
    """
    root = root.resolve()
    if IMAGE_FIELD not in catalogue:
        raise UserError(
            f"{root / root.name}.item",
            found=f"columns {', '.join(catalogue.columns) or 'none'}",
            expected=f"a column {IMAGE_FIELD!r} of image paths",
            todo="Or name a folder of images in recgen.images.",
        )
    named = dict(zip(catalogue.index, catalogue[IMAGE_FIELD], strict=True))
    resolved = cache(lambda name: (root / name).resolve())

    def find(token: str) -> Path | None:
        if not named.get(token):
            return None
        path = resolved(named[token])
        if not path.is_relative_to(root):
            raise UserError(
                f"item {token!r}, column {IMAGE_FIELD!r}",
                found=repr(named[token]),
                expected=f"a path inside {root}",
                todo="Images elsewhere are given as a folder in recgen.images.",
            )
        return path

    return find


def read_image_names(path: Path, where: str) -> dict[str, str]:
    """Read the table from item tokens to file names without ending: a CSV of two columns with a header.

    Raises
    ------
    UserError
        When it is absent or no CSV in UTF-8, or a row has another number of columns.
    """
    if not path.is_file():
        raise UserError(
            f"{where}: recgen.image_ids", found=f"no file {path}", expected="a CSV of two columns"
        )
    try:
        rows = list(csv.reader(read_text(path, str(path)).splitlines()))
    except csv.Error as error:
        raise UserError(str(path), found=str(error), expected="a CSV of two columns") from error
    for number, row in enumerate(rows, start=1):
        if len(row) != 2:
            raise UserError(
                f"{path}, row {number}", found=f"{len(row)} columns", expected="two: item token, file name"
            )
    return dict(rows[1:])


def render_posters(
    item_ids: Sequence[str], catalogue: pd.DataFrame, folder: Path, seed: int, where: str
) -> list[Path]:
    """Draw a poster per film from its genres and year into ``folder/<row>.png``, and return the files in the items' order.

    Raises
    ------
    UserError
        When the catalogue lacks the columns ``class`` and ``release_year``.
    """
    from recgen.data.simulation.renderer import movie_attributes, render

    if "class" not in catalogue or "release_year" not in catalogue:
        raise UserError(
            f"{where}: recgen.images",
            found=f"'rendered', and columns {', '.join(catalogue.columns) or 'none'} in .item",
            expected="the columns class (genres) and release_year that posters are drawn from",
            todo="Name a folder of images instead.",
        )
    files = []
    for number, token in enumerate(item_ids):
        genres, year = catalogue["class"].get(token, ""), catalogue["release_year"].get(token, "")
        look = movie_attributes(genres.split(), int(year) if year.isdigit() else None, token)
        buffer = io.BytesIO()
        render(look, seed_for(seed, "rendered picture", item=token)).save(buffer, format="PNG")
        files.append(folder / f"{number}.png")
        write_bytes(files[-1], buffer.getvalue(), durable=False)
        show("posters drawn", number + 1, len(item_ids))
    return files
