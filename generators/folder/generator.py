"""folder: images made elsewhere, so that any other system (GLIDE, LaVIT, a design team) is judged beside recgen's generators.

A folder holds the images and a manifest, ``manifest.csv`` (UTF-8, a line of headings, commas) or ``manifest.parquet``, with
the columns

=========== ==============================================================================================================
``user_id`` the user's token. Empty, or without the column: the item's image for every user who has none of their own
``item_id`` the item's token
``path``    the image, JPEG, PNG or WebP, at least 16 pixels each way, relative to the folder and never outside it
=========== ==============================================================================================================

in any order; others are not read. Whose images of what are asked for stands in a run's ``dataset/requests.parquet``, which
``recgen run --until dataset`` writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from generators.base import Generator, Progress, silent
from generators.folder.settings import Settings
from recgen.core.errors import UserError, brief
from recgen.data.images import BadImageError, read_image
from recgen.data.types import Creative, Request, RunData
from recgen.recommender.reward import RewardModel

_MANIFESTS = ("manifest.csv", "manifest.parquet")
_SHORTEST_EDGE = 16  # SSIM looks through a window of 11 pixels
_NAMED = 10  # of the requests without an image, in a message


@dataclass(frozen=True)
class Images:
    """A folder's manifest: which image is for whom.

    Attributes
    ----------
    folder
        Where the images lie.
    paths
        Image files by user and item; the user is "" where the image is for all.
    """

    folder: Path
    paths: dict[tuple[str, str], Path]

    @classmethod
    def read(cls, folder: Path, manifest: str | None = None) -> Images:
        """Read and check a folder's manifest; no image is opened.

        Raises
        ------
        UserError
            If folder or manifest are not there, a column is missing, an item or a path is empty, a path leads out of the folder,
            or a user and item come twice.
        """
        file = _manifest(folder, manifest)
        table = _table(file)
        root, paths = folder.resolve(), {}
        columns = (table.get("user_id", pd.Series("", table.index)), table["item_id"], table["path"])
        for number, (user, item, path) in enumerate(zip(*columns, strict=True), start=2):
            where = f"{file}, row {number}"
            if not item or not path:
                raise UserError(where, found=f"item_id {item!r}, path {path!r}", expected="both")
            place = _inside(root, path)
            if place is None:
                raise UserError(where, found=f"path {path!r}", expected=f"a file inside {folder}")
            if (user, item) in paths:
                raise UserError(
                    where, found=f"user {user!r} and item {item!r} again", expected="each pair once"
                )
            paths[user, item] = place
        return cls(root, paths)

    def find(self, request: Request) -> Path | None:
        """Return the image of a request: the user's own, else the item's for all, else None."""
        own = self.paths.get((request.user_id, request.item_id))
        return own or self.paths.get(("", request.item_id))

    def problem(self, request: Request) -> str:
        """Say in a few words why a request has no usable image; "" if it has one. The image is decoded to find out."""
        path = self.find(request)
        if path is None:
            return "no row"
        try:
            _open(path)
        except BadImageError as error:
            return f"{path.relative_to(self.folder)}: {error}"
        return ""

    def check(self, requests: Sequence[Request]) -> None:
        """Raise one `UserError` that counts the requests without a usable image and names the first of them."""
        with ThreadPoolExecutor() as pool:
            problems = list(pool.map(self.problem, requests))
        bad = [f"{r.user_id}, {r.item_id} ({why})" for r, why in zip(requests, problems, strict=True) if why]
        if bad:
            named = "; ".join(bad[:_NAMED]) + (f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else "")
            raise UserError(
                str(self.folder),
                found=f"no usable image for {len(bad)} of {len(requests)} requests (user, item): {named}",
                expected="a row of the manifest and an image for each",
                todo="Add them, or set missing: original to show the item's own image instead.",
            )


class Folder(Generator):
    """Hands out images that lie in a folder; nothing is learned, drawn or read of the user."""

    name = "folder"
    Config = Settings
    config: Settings

    @classmethod
    def check(cls, config: Settings, requests: Sequence[Request]) -> None:
        """Raise `UserError` for a manifest that cannot be used and, unless `missing` allows for them, for missing images."""
        images = Images.read(Path(config.path), config.manifest)
        if config.missing == "error":
            images.check(requests)

    @cached_property
    def images(self) -> Images:
        """The folder's manifest."""
        return Images.read(Path(self.config.path), self.config.manifest)

    def fit(
        self,
        data: RunData,
        reward: RewardModel | None = None,
        judge: RewardModel | None = None,
        progress: Progress = silent,
    ) -> None:
        """Learn nothing."""

    def generate(
        self,
        requests: Sequence[Request],
        data: RunData,
        reward: RewardModel | None = None,
        progress: Progress = silent,
    ) -> Iterator[Creative]:
        """Yield one creative per request, in order; its recipe names the file, or says that the item's own image stands in."""
        for done, request in enumerate(requests, start=1):
            image, recipe = self._image(request, data)
            yield Creative(request, self.name, image, recipe)
            progress("folder: images", done, len(requests))

    def _image(self, request: Request, data: RunData) -> tuple[Image.Image, dict[str, Any]]:
        path, problem = self.images.find(request), "no row"
        if path is not None:
            try:
                return _open(path), {"file": str(path.relative_to(self.images.folder))}
            except BadImageError as error:
                problem = str(error)
        own = data.images[data.item_rows[request.item_id]] if self.config.missing == "original" else None
        if own is None:
            raise UserError(
                str(self.images.folder),
                found=f"no usable image for user {request.user_id!r} and item {request.item_id!r} ({problem})",
                expected="one, or with missing: original an item that has an image",
            )
        return read_image(own), {"file": None, "original": True, "problem": problem}

    def save(self, folder: Path) -> None:
        """Write nothing but the empty `folder`."""
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, folder: Path) -> None:
        """Restore nothing."""


def _open(path: Path) -> Image.Image:
    image = read_image(path)
    if min(image.size) < _SHORTEST_EDGE:
        raise BadImageError(f"{image.width} x {image.height} pixels; at least {_SHORTEST_EDGE} each way")
    return image


def _inside(root: Path, path: str) -> Path | None:
    """Return where a path relative to `root` leads, through links too, or None where that is outside or nowhere."""
    try:
        place = (root / path).resolve()
    except (OSError, RuntimeError, ValueError):  # links that lead to themselves, bytes that no file name has
        return None
    return place if place.is_relative_to(root) else None


def _manifest(folder: Path, name: str | None) -> Path:
    if not folder.is_dir():
        raise UserError(
            "recgen.folder.path", found=f"no folder {str(folder)!r}", expected="a folder of images"
        )
    names = _MANIFESTS if name is None else (name,)
    for each in names:
        file = folder / each
        if file.is_file() and file.resolve().is_relative_to(folder.resolve()):
            return file
    raise UserError(str(folder), found="no manifest", expected=f"{' or '.join(names)} in the folder")


def _table(file: Path) -> pd.DataFrame:
    """Return the manifest as text, without missing values."""
    try:
        if file.suffix == ".parquet":
            table = pd.read_parquet(
                file
            ).convert_dtypes()  # whole numbers beside missing ones are whole again
        else:
            table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except Exception as error:  # pandas and pyarrow raise many kinds; each means that it is no table
        raise UserError(
            str(file), found=f"no table ({brief(error)})", expected="a CSV or Parquet manifest"
        ) from error
    missing = [name for name in ("item_id", "path") if name not in table]
    if missing:
        found = ", ".join(map(str, table.columns)) or "none"
        raise UserError(
            str(file), found=f"columns {found}", expected="item_id, path and, for personal images, user_id"
        )
    table = table[[name for name in ("user_id", "item_id", "path") if name in table]]
    return table.astype(object).where(table.notna(), "").astype(str)
