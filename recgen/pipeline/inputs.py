"""A user's data as a run reads them, at paths or at URLs: where they are on this machine, and what identifies them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath

from recgen.config.given import GivenFeatures
from recgen.config.loader import Config
from recgen.core.io import identity, read_table
from recgen.core.remote import is_url
from recgen.data.at_url import UrlFolder, copy_of
from recgen.data.convert.target import PROVENANCE
from recgen.data.images import ENDINGS
from recgen.recommender import recbole

IDS = ".ids.txt"
"""Ends the name of the file with the item tokens of given features' rows."""
_TABLES = ("inter", "item", "user")


class Inputs:
    """What a configuration names of the user's data.

    What lies at an URL is asked about when it is first needed, and once; what is read of it is fetched before.

    Parameters
    ----------
    config
        The configuration.
    folder
        The run's folder, which has the data set that a run simulates.
    at_hand
        Whether copies of what lies at URLs are here as they are to be, because this process works for another one that has seen
        to it.
    """

    def __init__(self, config: Config, folder: Path, at_hand: bool = False) -> None:
        self._config, self._settings, self._folder, self._at_hand = config, config.settings, folder, at_hand
        self._files: dict[str, UrlFolder] = {}

    @cached_property
    def tables(self) -> UrlFolder | None:
        """The folder of the atomic files, where it is at an URL: the data set's, or that of a simulated one's base."""
        url = (
            None if self._real is None else recbole.data_url({**self._config.recbole, "dataset": self._real})
        )
        by_column = self._settings.images is None and self._settings.simulator is None
        return None if url is None else UrlFolder(url, self._key("data_path"), deep=by_column)

    @cached_property
    def images(self) -> UrlFolder | None:
        """The folder that has the items' images, where it is at an URL: one of images, or that of `.item`, which names them."""
        named = self._settings.images
        if self._settings.simulator is not None:
            return None
        if named is None:
            return self.tables
        return UrlFolder(named, self._key("recgen.images")) if is_url(named) else None

    @cached_property
    def source(self) -> Path:
        """The folder of the data set's atomic files; a simulated one lies inside the run's folder."""
        if self._settings.simulator is not None:
            return self._folder / "simulated" / self._config.recbole["dataset"]
        return self._real_folder

    @property
    def simulator_base(self) -> Path | None:
        """The folder of the real data set that a simulated one takes its users, items and ratings from, if any."""
        return None if self._settings.simulator is None or self._real is None else self._real_folder

    @property
    def images_folder(self) -> Path | None:
        """The folder of images named by item token; None where `.item` names each item's image."""
        if self._settings.simulator is not None:
            return self.source / "images"
        if self._settings.images is None:
            return None
        return Path(self._settings.images) if self.images is None else self.images.place

    @property
    def image_ids(self) -> Path | None:
        """The table of images' names by item token, if there is one."""
        named = self._settings.image_ids
        return None if named is None else self._file(named, "recgen.image_ids")

    def given(self, kind: str) -> Path | None:
        """Return the file of given features, `image` or `text`, with their ids beside it; None where none are given."""
        named: str | None = getattr(self._settings.given_features, kind)
        return None if named is None else self._file(named, f"recgen.given_features.{kind}", ids=True)

    def has_table(self, name: str) -> bool:
        """Return whether a file is in the folder of atomic files; nothing is fetched for that."""
        return (self.source / name).is_file() if self.tables is None else name in self.tables.listed

    def bring(self) -> None:
        """Make sure that everything is here that is read, of the images those that the run's table of items names."""
        if self.tables is not None:
            _ = self._real_folder
        _ = self.image_ids
        for kind in GivenFeatures.model_fields:
            self.given(kind)
        made = self._folder / "dataset/items.parquet"
        if self.images is not None and made.is_file():
            self.bring_images(read_table(made)["image"])

    def bring_images(self, images: Iterable[str | None]) -> None:
        """Make sure that those of the images that a run's table names by an URL are here."""
        if self.images is None or self._at_hand:
            return
        prefix = f"{self.images.url}/"
        self.images.bring(each.removeprefix(prefix) for each in images if each and each.startswith(prefix))

    def identities(self) -> dict[str, str]:
        """Return what identifies the files of the data set and the images; what a run simulates follows from its settings."""
        s = self._settings
        if s.simulator is not None:
            return {} if self._real is None else {end: self._table_identity(end) for end in _TABLES[:2]}
        found = {end: self._table_identity(end) for end in _TABLES}
        if self.images is not None:
            found["images"] = self.images.identity(ENDINGS)
        elif self.images_folder is not None and s.images != "rendered":
            # a download's lock and list of failures change nothing
            found["images"] = identity(self.images_folder, ENDINGS)
        if s.image_ids is not None and is_url(s.image_ids):
            at = self._at_url(s.image_ids, "recgen.image_ids")
            found["image_ids"] = at.mark(PurePosixPath(s.image_ids).name)
        elif s.image_ids is not None:
            found["image_ids"] = identity(Path(s.image_ids))
        return found

    def given_identities(self) -> dict[str, list[str]]:
        """Return what identifies given features and their ids, by kind."""
        found = {}
        for kind, file in self._settings.given_features.model_dump(exclude_none=True).items():
            at = self._at_url(file, f"recgen.given_features.{kind}", ids=True) if is_url(file) else None
            if at is None:
                found[kind] = [identity(Path(file)), identity(Path(file).with_suffix(IDS))]
            else:
                found[kind] = [at.mark(name) for name in _with_ids(file)]
        return found

    @property
    def _real(self) -> str | None:
        """The name of the data set that there is; None where everything is simulated."""
        simulator = self._settings.simulator
        return str(self._config.recbole["dataset"]) if simulator is None else simulator.base

    @cached_property
    def _real_folder(self) -> Path:
        """The folder of the data set that there is, with its tables in it."""
        if self.tables is not None and not self._at_hand:
            tables = (name for name in self.tables.listed if "/" not in name)
            self.tables.bring(
                name for name in tables if name.startswith(f"{self._real}.") or name == PROVENANCE
            )
            truth = UrlFolder(f"{self.tables.url}/simulator", self._key("data_path"), deep=True)
            truth.bring(truth.listed)
        return recbole.data_folder({**self._config.recbole, "dataset": self._real})

    def _table_identity(self, ending: str) -> str:
        name = f"{self._real}.{ending}"
        return identity(self._real_folder / name) if self.tables is None else self.tables.mark(name)

    def _file(self, place: str, key: str, ids: bool = False) -> Path:
        if not is_url(place):
            return Path(place)
        if not self._at_hand:
            at = self._at_url(place, key, ids)
            at.bring(at.listed)
        return copy_of(place)

    def _at_url(self, file: str, key: str, ids: bool = False) -> UrlFolder:
        """Return a file at an URL, with `ids` the one beside it too."""
        if key not in self._files:
            names = _with_ids(file) if ids else _with_ids(file)[:1]
            self._files[key] = UrlFolder(file.rpartition("/")[0], self._key(key), names=names)
        return self._files[key]

    def _key(self, key: str) -> str:
        return f"{self._config.source}: {key}"


def _with_ids(url: str) -> tuple[str, str]:
    """Return the names of an array of given features and of its ids."""
    name = PurePosixPath(url).name
    return name, str(PurePosixPath(name).with_suffix(IDS))
