"""Files at an URL that fsspec knows: whole files in and out, and names that appear with all of their contents or not at all."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from recgen.core.errors import UserError, brief, without_credentials
from recgen.core.io import TEMPORARY

_EXTRAS = {"s3": "recgen[s3]", "s3a": "recgen[s3]"}
"""What brings fsspec's file system of a protocol."""
_AT_ONCE = 32
"""Files that are fetched at a time; each is written to the disk as it comes."""
_A_REQUEST = 1000
"""Files that one request removes where a store can remove several, as S3 can."""
_PIECE = 8 * 2**20
"""Bytes up to which a file counts as small. S3's larger ones come in pieces of so many, ten at a time, held in memory."""


def is_url(place: str | Path) -> bool:
    """Return whether a place is an URL and no path of this machine's.

    >>> is_url("s3://bucket/run"), is_url("file:///data/run"), is_url("runs/demo")
    (True, True, False)
    """
    return isinstance(place, str) and "://" in place


def on_this_machine(option: str, place: str, todo: str) -> Path:
    """Return a path to write to, where an URL will not do.

    Parameters
    ----------
    option
        What the user gave it with, for the message.
    place
        The path.
    todo
        What to do instead of giving an URL.

    Raises
    ------
    UserError
        If it is an URL.
    """
    if is_url(place):
        raise UserError(
            f"{option} {without_credentials(place)}",
            found="an URL",
            expected="a path of this machine's",
            todo=todo,
        )
    return Path(place)


class Remote:
    """A folder at an URL.

    Parameters
    ----------
    url
        Such as ``s3://bucket/run``. Credentials and the endpoint are found as the file system's package finds them.
    key
        The key of the configuration that names it, for messages.

    Raises
    ------
    UserError
        If fsspec knows no such protocol, or its package is not installed; and from every method, if the place cannot be reached,
        read or written.
    """

    def __init__(self, url: str, key: str = "") -> None:
        import fsspec
        from fsspec.implementations.local import LocalFileSystem

        self.url = url.rstrip("/")
        self._where = f"{key} {without_credentials(self.url)}".lstrip()
        protocol = url.partition("://")[0]
        if set(url) & set("*?["):  # file systems take them for patterns, some here and some there
            raise UserError(self._where, found="one of * ? [ in it", expected="an URL without patterns")
        try:
            self._files, place = fsspec.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            package = _EXTRAS.get(protocol)
            raise UserError(
                self._where,
                found=brief(error),
                expected="an URL of a file system that fsspec knows and whose package is installed",
                todo=f"pip install '{package}'" if package else "",
            ) from error
        self._root = place.rstrip("/")
        self._has_folders = isinstance(self._files, LocalFileSystem)
        # Stores of objects (S3, Google's, Azure's), which fsspec has with an asynchronous side, show none before it is whole.
        self._shows_whole = bool(self._files.async_impl)

    def sizes(self, under: str = "") -> dict[str, int]:
        """Return the size in bytes of each file by its name, below a folder or of one file; half-written ones do not count."""
        with self._reached():
            self._files.invalidate_cache()
            place = self._path(under) if under else self._root
            found = self._files.find(place, detail=True) if self._files.exists(place) else {}
        names = {path[len(self._root) + 1 :]: int(entry["size"]) for path, entry in found.items()}
        return {name: size for name, size in names.items() if not name.endswith("/") and not _is_draft(name)}

    def entries(self, deep: bool = True) -> dict[str, dict[str, Any]]:
        """Return what the store says of each file by its name: of those in the folder, and with `deep` of those below it.

        Where there is no such folder that is an error, or with `deep` none of them.
        """
        with self._reached():
            self._files.invalidate_cache()
            if deep:
                found = self._files.find(self._root, detail=True)
            else:  # `find` would take a bucket that may not be read for an empty one
                listed = self._files.ls(self._root, detail=True)
                found = {entry["name"]: entry for entry in listed if entry["type"] != "directory"}
            for path in [path for path, entry in found.items() if entry.get("islink")]:
                found[path] = self._files.info(path)  # of the file that it leads to
        named = {path[len(self._root) + 1 :]: entry for path, entry in found.items()}
        return {name: entry for name, entry in named.items() if name and not name.endswith("/")}

    def entry(self, name: str) -> dict[str, Any] | None:
        """Return what the store says of one file; None where it is not there."""
        with self._reached():
            self._files.invalidate_cache()
            try:
                found: dict[str, Any] = self._files.info(self._path(name))
            except FileNotFoundError:
                return None
            return found if found.get("type", "file") == "file" else None

    def read(self, name: str) -> bytes | None:
        """Return a file's contents; None where it is not there."""
        with self._reached():
            try:
                found: bytes = self._files.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return found

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return a JSON file's object; None where it is absent or none."""
        with suppress(ValueError):
            found = json.loads(self.read(name) or b"")
            return found if isinstance(found, dict) else None
        return None

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return the contents of files by name, of those that are there."""
        if not names:
            return {}
        with self._reached():
            found = self._files.cat([self._path(name) for name in names], on_error="omit")
        return {path[len(self._root) + 1 :]: data for path, data in found.items()}

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that is not there yet, and return whether it was not.

        Of several processes at once one is first, where the file system can tell: on S3 and on local disks.
        """
        if self.read(name) is not None:  # some stores take no notice of what follows
            return False
        with self._reached():
            try:
                self._make_folders([name])
                self._files.pipe_file(self._path(name), data, mode="create")
            except FileExistsError:
                return False
        return True

    def commit(self, name: str, data: bytes) -> None:
        """Write a file so that a reader, or a kill at any moment, finds either the old contents or all of the new ones."""
        draft = str(Path(name).with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{Path(name).name}"))
        with self._reached():
            self._make_folders([name])
            if self._shows_whole:
                self._files.pipe_file(self._path(name), data)
            else:
                self._files.pipe_file(self._path(draft), data)
                self._files.mv(self._path(draft), self._path(name))

    def put(self, root: Path, names: Sequence[str]) -> None:
        """Copy files of a local folder here, under their names in it; a kill may leave one of them cut short."""
        if names:
            with self._reached():
                self._make_folders(names)
                self._files.put([str(root / name) for name in names], [self._path(name) for name in names])

    def get(self, root: Path, names: Sequence[str]) -> None:
        """Copy files into a local folder, where each appears whole or not at all."""
        if not names:
            return
        with self._reached(), tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=root) as place:
            drafts = [str(Path(place) / str(number)) for number in range(len(names))]
            self._files.get([self._path(name) for name in names], drafts)
            for name, draft in zip(names, drafts, strict=True):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                Path(draft).replace(root / name)

    def download(self, sizes: dict[str, int], drafts: Sequence[Path], arrived: Callable[[int], None]) -> None:
        """Copy files, given by their names with their sizes, to local ones, several at once, with a bounded use of memory.

        `arrived` is told how many bytes have come since it was last told, in another thread.
        """
        pairs = list(zip(sizes, map(str, drafts), strict=True))
        small = [pair for pair in pairs if sizes[pair[0]] <= _PIECE]
        large = [pair for pair in pairs if sizes[pair[0]] > _PIECE]
        s3 = {"chunksize": _PIECE} if {"s3", "s3a"} & set(_protocols(self._files)) else {}
        for block, at_once in ((small, _AT_ONCE), (large, 1)):
            options: dict[str, Any] = {"batch_size": at_once, **s3} if self._shows_whole else {}
            with self._reached():
                if block:
                    self._files.get(
                        [self._path(name) for name, _ in block],
                        [draft for _, draft in block],
                        callback=_counting(arrived),
                        **options,
                    )

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, and whatever is below folders of these names."""
        for name in names:
            found = [self._path(each) for each in self.sizes(name)]
            with self._reached(), suppress(FileNotFoundError):
                if found:
                    self._files.rm(found)

    def remove_files(self, names: Sequence[str]) -> None:
        """Remove files, half-written ones among them, in this order, and folders that are empty then. Nobody else writes here."""
        paths = [self._path(name) for name in names]
        with self._reached():
            if self._shows_whole:
                for first in range(0, len(paths), _A_REQUEST):
                    self._files.rm(paths[first : first + _A_REQUEST])
            else:
                for path in paths:
                    self._files.rm_file(path)
            for path, _, _ in os.walk(self._root, topdown=False) if self._has_folders else ():
                if not os.listdir(path):
                    os.rmdir(path)

    def _make_folders(self, names: Iterable[str]) -> None:
        """Make the folders of files; elsewhere than on disks there are none, and a bucket is not made for a mistyped name."""
        if self._has_folders:
            for folder in {Path(self._path(name)).parent for name in names}:
                folder.mkdir(parents=True, exist_ok=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn whatever a file system and its client raise into an error that names the URL."""
        try:
            yield
        except Exception as error:  # botocore's and aiohttp's are of no common kind
            raise UserError(
                self._where,
                found=brief(error),
                expected="a place that can be reached, read and written",
                todo="The same command goes on where it stopped.",
            ) from error


def _protocols(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)


def _counting(arrived: Callable[[int], None]) -> Any:
    """Return fsspec's callback of a transfer of several files that hands on how many bytes of them have come."""
    from fsspec.callbacks import Callback

    class OfOne(Callback):  # type: ignore[misc]  # fsspec has no types
        """What one file's transfer reports to, piece by piece."""

        def relative_update(self, inc: int = 1) -> None:
            arrived(inc)

    class OfAll(Callback):  # type: ignore[misc]
        """What the transfer of all of them reports to."""

        def branched(self, path_1: str, path_2: str, **kwargs: Any) -> Callback:
            return OfOne()

    return OfAll()


def _is_draft(name: str) -> bool:
    return name.rpartition("/")[2].startswith(TEMPORARY)
