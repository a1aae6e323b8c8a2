"""A user's data at an URL that fsspec knows: read from copies on this machine, which are fetched where they are not there yet.

What the store itself says of an object (its ETag, else its size and the time of its change) is what the object is known by: one
that has changed is fetched again and counts as changed, and no other one is. Copies lie where their URLs say, below `folder`, so
that the same path can be found by every process. A copy appears whole or not at all, and counts only once it is written down
what it is a copy of.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from recgen.core.errors import UserError, without_credentials
from recgen.core.io import TEMPORARY, digest
from recgen.core.machine import Held, wait_lock
from recgen.core.progress import show
from recgen.core.remote import Remote, is_url

logger = logging.getLogger("recgen")

_TAGS = ("ETag", "etag", "md5Hash", "md5", "Content-MD5", "content_md5", "checksum", "sha", "CRC")
_TIMES = (
    "LastModified", "Last-Modified", "last_modified", "updated", "modified", "mtime", "modify", "modificationTime",
    "date_time", "created",
)  # fmt: skip
"""What stores call the digest of an object, and the time of its last change."""
_AT_ONCE = 256
"""Files after which it is written down that they are here: what a kill can cost is so many."""


def folder() -> Path:
    """Return where copies lie: ``data`` in the folder that RECGEN_CACHE names, or in ~/.cache/recgen."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "recgen"
    return Path(os.environ.get("RECGEN_CACHE") or cache).expanduser().resolve() / "data"


def copy_of(url: str) -> Path:
    """Return where the copy of a file or a folder at an URL is, or would be.

    Raises
    ------
    UserError
        For an URL with ``..`` among its folders.
    """
    protocol, _, place = without_credentials(url).partition("://")
    parts = PurePosixPath(place.strip("/")).parts
    if ".." in parts:
        raise UserError(without_credentials(url), found="'..' in it", expected="an URL without")
    return folder().joinpath(protocol, *parts)


def image_file(root: Path, image: str) -> Path:
    """Return where an image lies that a run's table names: in the run's folder `root`, elsewhere, or as the copy of an URL."""
    return copy_of(image) if is_url(image) else root / image


@dataclass(frozen=True)
class Entry:
    """What a store says of an object: what it is known by, and its size in bytes."""

    mark: str
    size: int


class UrlFolder:
    """Files of a folder at an URL.

    Parameters
    ----------
    url
        The folder.
    key
        The configuration and its key that names it, for messages.
    deep
        Whether files in folders below it count too.
    names
        The files that are looked for; None lists the folder.

    Raises
    ------
    UserError
        If fsspec knows no such protocol or its package is not installed; from `listed` and `bring` if the place cannot be reached
        or read.
    """

    def __init__(
        self, url: str, key: str, *, deep: bool = False, names: Collection[str] | None = None
    ) -> None:
        self._remote = Remote(url, key)
        self._key, self._deep, self._names = key, deep, names
        self.url = without_credentials(self._remote.url)
        self.place = copy_of(self.url)

    @cached_property
    def listed(self) -> dict[str, Entry]:
        """What there is, by name; it is asked for once.

        Raises
        ------
        UserError
            For a name that leads out of the folder, and for a store that says neither a digest nor a time of change.
        """
        if self._names is None:
            logger.info("%s: looking at what is there", self.url)
            found = self._remote.entries(self._deep)
        else:
            asked = {name: self._remote.entry(name) for name in self._names}
            found = {name: entry for name, entry in asked.items() if entry is not None}
        for name in found:
            self._check(name)
        return {name: self._entry(name, entry) for name, entry in found.items()}

    def identity(self, endings: Collection[str]) -> str:
        """Return what identifies the files of these endings."""
        found = sorted(
            [name, entry.mark]
            for name, entry in self.listed.items()
            if PurePosixPath(name).suffix.lower() in endings
        )
        return digest(found)

    def mark(self, name: str) -> str:
        """Return what identifies a file."""
        entry = self.listed.get(name)
        return "absent" if entry is None else entry.mark

    def bring(self, names: Iterable[str]) -> None:
        """Fetch those of the files that are not here as they are there; remove what is here and no more there.

        Raises
        ------
        UserError
            If that cannot be done.
        """
        wanted = {name: self.listed[name] for name in sorted(set(names)) if name in self.listed}
        with self._turn():
            index = _Index(self.url)
            known = index.read()
            gone = [name for name in known if self._is_mine(name) and name not in self.listed]
            self._remove(gone)
            index.forget(gone)
            absent = {name: entry for name, entry in wanted.items() if not self._is_here(name, entry, known)}
            if absent:
                self._fetch(absent, index)

    @property
    def copies(self) -> list[Path]:
        """Where the copies of all files are, or would be."""
        return [self.place / name for name in self.listed]

    def name_of(self, path: Path) -> str:
        """Return the name of a file by the path of its copy."""
        return path.relative_to(self.place).as_posix()

    def _entry(self, name: str, entry: Mapping[str, Any]) -> Entry:
        mark, size = _mark(entry), entry.get("size")
        if mark is None or size is None:  # listings of web servers are names alone
            asked = self._remote.entry(name) or {}
            mark, size = _mark(asked), asked.get("size")
        if mark is None or size is None:
            raise UserError(
                f"{self._key} {self.url}/{name}",
                found="a store that says neither a digest of it nor when it was changed, or not its size",
                expected="one by which a change can be seen",
                todo="Copy the data into a local folder.",
            )
        return Entry(f"{size}@{mark}", int(size))

    def _check(self, name: str) -> None:
        if ".." in PurePosixPath(name).parts or name.startswith("/") or "\\" in name:
            raise UserError(
                f"{self._key} {self.url}", found=f"a file named {name!r}", expected="names inside the folder"
            )

    def _is_mine(self, name: str) -> bool:
        return name in self._names if self._names is not None else self._deep or "/" not in name

    def _is_here(self, name: str, entry: Entry, known: Mapping[str, str]) -> bool:
        path = self.place / name
        return known.get(name) == entry.mark and path.is_file() and path.stat().st_size == entry.size

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep other processes from fetching the same meanwhile, or wait for them."""
        lock = folder() / ".turns"
        try:
            with wait_lock(lock, self.url, patient=False):
                yield
            return
        except Held:
            logger.info("%s: another process is fetching from it; waiting for it", self.url)
        with wait_lock(lock, self.url):
            yield

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            path = self.place / name
            path.unlink(missing_ok=True)
            with suppress(OSError):  # others are left in it
                path.parent.rmdir()

    def _fetch(self, absent: Mapping[str, Entry], index: _Index) -> None:
        """Fetch files some at a time: into drafts, which then take their places, which is then written down."""
        logger.info("%s: fetching %d files to %s", self.url, len(absent), self.place)
        drafts = folder() / f"{TEMPORARY}{digest(self.url)}"
        shutil.rmtree(drafts, ignore_errors=True)  # of a process that was killed
        progress, names = _Progress(self.url, sum(entry.size for entry in absent.values())), iter(absent)
        while block := list(islice(names, _AT_ONCE)):
            drafts.mkdir(parents=True)
            files = [drafts / str(number) for number in range(len(block))]
            sizes = {name: absent[name].size for name in block}
            self._remote.download(sizes, files, progress.add)
            index.forget(block)
            for name, file in zip(block, files, strict=True):
                self._put(name, file, sizes[name])
            index.keep({name: absent[name].mark for name in block})
            shutil.rmtree(drafts)
            progress.have(sum(sizes.values()))

    def _put(self, name: str, draft: Path, size: int) -> None:
        found = draft.stat().st_size if draft.is_file() else 0
        if found != size:
            raise UserError(
                f"{self._key} {self.url}/{name}",
                found=f"{found} bytes of it",
                expected=f"{size}, as its store said when it was listed",
                todo="It was cut short or is being changed: start again, which fetches only what is missing.",
            )
        place = self.place / name
        place.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(place)


class _Progress:
    """Says how many MiB have come, of all that are fetched."""

    def __init__(self, url: str, total: int) -> None:
        self._what, self._total, self._done, self._block = f"MiB of {url}", total, 0, 0

    def add(self, count: int) -> None:
        """Take note of bytes that have come."""
        self._block += count
        self._say(self._done + self._block)

    def have(self, count: int) -> None:
        """Take note that files of so many bytes in all have come; not every file system has told of them before."""
        self._done, self._block = self._done + count, 0
        self._say(self._done)

    def _say(self, count: int) -> None:
        total = -(-self._total // 2**20)
        show(self._what, total if count >= self._total else count // 2**20, total)


class _Index:
    """Which copies are here, of what: a table of URLs and marks that is written in transactions.

    Parameters
    ----------
    url
        The folder whose files are meant.
    """

    def __init__(self, url: str) -> None:
        self._prefix = f"{url}/"

    def read(self) -> dict[str, str]:
        """Return the mark of every file below the folder, by name."""
        with self._open() as db:
            rows = db.execute(
                "SELECT url, mark FROM files WHERE url >= ? AND url < ?",
                (self._prefix, f"{self._prefix}\U0010ffff"),
            ).fetchall()
        return {url.removeprefix(self._prefix): mark for url, mark in rows}

    def keep(self, marks: Mapping[str, str]) -> None:
        """Write down files by name."""
        rows = [(self._prefix + name, mark) for name, mark in marks.items()]
        with self._open() as db:
            db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?)", rows)

    def forget(self, names: Iterable[str]) -> None:
        """Strike out files by name."""
        with self._open() as db:
            db.executemany("DELETE FROM files WHERE url = ?", [(self._prefix + name,) for name in names])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        folder().mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(folder() / "index.sqlite", timeout=60.0)) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS files (url TEXT PRIMARY KEY, mark TEXT) WITHOUT ROWID")
            yield db


def _mark(entry: Mapping[str, Any]) -> str | None:
    """Return what a store says by which a change of an object can be seen; None where it says nothing of the kind."""
    found = next((entry[name] for name in (*_TAGS, *_TIMES) if entry.get(name)), None)
    return None if found is None else str(found).strip('"')
