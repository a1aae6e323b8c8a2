"""An item's text and image: where they come from, and what is done about the broken ones."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from recgen.core.errors import UserError, nearest
from recgen.core.io import write_bytes
from recgen.data.images import BadImageError, image_index, read_image
from recgen.pipeline.context import RunContext

LONGEST_TEXT = 2_000  # characters; text encoders read some 77 words
IMAGE_FIELD = "image"

Bad = list[dict[str, str]]


def texts(run: RunContext, item_ids: list[str], catalogue: pd.DataFrame) -> list[str]:
    """Return one text per item, its `text_fields` in order; the empty string for an item that is not in `.item`."""
    fields = run.settings.text_fields
    if fields is None:
        fields = [
            name for name in catalogue.columns if name != IMAGE_FIELD and catalogue[name].dtype == object
        ]
    for name in fields:
        if name not in catalogue.columns:
            raise UserError(
                f"{run.config.source}: recgen.text_fields",
                found=repr(name),
                expected=f"columns of .item: {', '.join(catalogue.columns)}",
                todo=nearest(name, catalogue.columns),
            )
    rows = catalogue[fields].reindex(item_ids).fillna("").astype(str)
    return [" ".join(" ".join(row).split())[:LONGEST_TEXT] for row in rows.to_numpy().tolist()]


def images(run: RunContext, item_ids: list[str], catalogue: pd.DataFrame) -> tuple[list[str | None], Bad]:
    """Return each item's image path or None, and the images that cannot be used.

    Raises
    ------
    UserError
        When more than `max_bad_images` of the images found are bad, or none is found at all.
    """
    if run.settings.images == "rendered" and run.settings.simulator is None:
        return _rendered(run, item_ids, catalogue), []
    find = _finder(run, catalogue)
    paths = [find(token) for token in item_ids]
    reasons = _reasons(paths)
    bad = [
        {"item_id": token, "file": str(path), "reason": reason}
        for token, path, reason in zip(item_ids, paths, reasons, strict=True)
        if path is not None and reason
    ]
    _check_share(run, bad, sum(path is not None for path in paths))
    return [
        _name(run, path) if path and not reason else None for path, reason in zip(paths, reasons, strict=True)
    ], bad


def _check_share(run: RunContext, bad: Bad, found: int) -> None:
    limit = run.settings.max_bad_images
    if found == 0:
        raise UserError(
            f"{run.config.source}: recgen.images",
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
    """Read every image once and return what is wrong with each, the empty string where nothing is."""

    def reason(path: Path | None) -> str:
        try:
            if path is not None:
                read_image(path)
        except BadImageError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor() as pool:
        return list(pool.map(reason, paths))


def _name(run: RunContext, path: Path) -> str:
    """Return the path as items.parquet holds it: relative where it is under the run's folder, else absolute."""
    path, root = path.resolve(), run.folder.resolve()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _finder(run: RunContext, catalogue: pd.DataFrame) -> Callable[[str], Path | None]:
    """Return the function from an item's token to its image file, if there is one."""
    folder = run.images_folder
    if folder is None:
        return _from_column(run, catalogue)
    if not folder.is_dir():
        raise UserError(
            f"{run.config.source}: recgen.images",
            found=f"no folder {folder}",
            expected="a folder of images",
        )
    index, stems = image_index(folder), _image_ids(run)

    def find(token: str) -> Path | None:
        stem = token if stems is None else stems.get(token)
        return None if stem is None else index.get(unicodedata.normalize("NFC", stem))

    return find


def _from_column(run: RunContext, catalogue: pd.DataFrame) -> Callable[[str], Path | None]:
    """Look images up in the `image:token` column, inside the data set's folder only."""
    root = run.source.resolve()
    if IMAGE_FIELD not in catalogue:
        raise UserError(
            f"{root / run.config.recbole['dataset']}.item",
            found=f"columns {', '.join(catalogue.columns) or 'none'}",
            expected=f"a column {IMAGE_FIELD!r} of image paths",
            todo="Or name a folder of images in recgen.images.",
        )
    named = catalogue[IMAGE_FIELD]

    def find(token: str) -> Path | None:
        if not named.get(token):
            return None
        path = (root / named[token]).resolve()
        if not path.is_relative_to(root):
            raise UserError(
                f"item {token!r}, column {IMAGE_FIELD!r}",
                found=repr(named[token]),
                expected=f"a path inside {root}",
                todo="Images elsewhere are given as a folder in recgen.images.",
            )
        return path

    return find


def _image_ids(run: RunContext) -> dict[str, str] | None:
    """Read the table from item tokens to file names, if the configuration names one."""
    if run.settings.image_ids is None:
        return None
    path = Path(run.settings.image_ids)
    if not path.is_file():
        raise UserError(
            f"{run.config.source}: recgen.image_ids", found=f"no file {path}", expected="a CSV of two columns"
        )
    rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    for number, row in enumerate(rows, start=1):
        if len(row) != 2:
            raise UserError(
                f"{path}, row {number}", found=f"{len(row)} columns", expected="two: item token, file name"
            )
    return dict(rows[1:])


def _rendered(run: RunContext, item_ids: list[str], catalogue: pd.DataFrame) -> list[str | None]:
    """Draw a poster per film from its genres and year."""
    from recgen.core.seeding import seed_for
    from recgen.data.simulation.renderer import movie_attributes, render

    if "class" not in catalogue or "release_year" not in catalogue:
        raise UserError(
            f"{run.config.source}: recgen.images",
            found=f"'rendered', and columns {', '.join(catalogue.columns) or 'none'} in .item",
            expected="the columns class (genres) and release_year that posters are drawn from",
            todo="Name a folder of images instead.",
        )
    names: list[str | None] = []
    for number, token in enumerate(item_ids):
        genres, year = catalogue["class"].get(token, ""), catalogue["release_year"].get(token, "")
        look = movie_attributes(genres.split(), int(year) if year.isdigit() else None, token)
        buffer = io.BytesIO()
        render(look, seed_for(run.settings.seed, "rendered picture", item=token)).save(buffer, format="PNG")
        names.append(f"dataset/images/{number}.png")
        write_bytes(run.folder / f"dataset/images/{number}.png", buffer.getvalue(), durable=False)
    return names
