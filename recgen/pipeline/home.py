"""A run at an URL: it works in a local folder, and what is finished is taken to the URL, its record last.

So a run whose machine is lost goes on on another one, from what is there. The local folder is named after the URL; its file
``.home`` has the URL, so that every process that works in the folder knows where to take what it has finished.

The URL says which local folder has written to it last. That folder is in line: it has everything that is there, and more where
a kill came between writing and taking away. Any other folder is brought in line first.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from recgen.core.errors import UserError
from recgen.core.io import TEMPORARY, digest, is_as_written, read_json, write_bytes, write_json
from recgen.core.machine import Held, try_lock
from recgen.core.remote import Remote, is_url
from recgen.pipeline.lease import NAME as LEASE
from recgen.pipeline.lease import Lease

logger = logging.getLogger("recgen")

FILE = ".home"
_WRITER = ".writer"
_RECORDS = "stages/"
PARTS = "parts/"
"""Below the run's folder: a log and a record of each part that has been started."""
_CHUNKS = ("creatives/shards/", "creatives/images/", "groups/shards/", "groups/images/")
"""What is taken to the URL chunk by chunk (`recgen.stages.chunks`), and not once more when the task is finished."""
OWNED = "owned"
"""Key of a record, beside its outputs: what else the task has written, which is taken along but not compared."""
_ANSWERS = "answers.sqlite"
_BESIDE = ("config.yaml", "threads.txt", "log.txt", _ANSWERS)
"""Files of no task that a run is taken up again with, or read."""


def local(place: str | Path, names: Collection[str] | None = None) -> Path:
    """Return the folder of a run to read: the path itself, or where what is finished at an URL has been fetched to.

    Parameters
    ----------
    place
        A path or an URL.
    names
        The files that are needed; all by default.

    Raises
    ------
    UserError
        If there is no run at the URL.
    """
    if not is_url(place):
        return Path(place)
    is_new = not _place_of(str(place)).exists()
    folder = folder_of(str(place))
    home = Home.of(folder)
    assert home is not None
    try:
        home.fetch(names)
    except UserError:
        if is_new:  # a mistyped URL leaves nothing behind
            shutil.rmtree(folder)
        raise
    return folder


def folder_of(url: str, part: str = "") -> Path:
    """Return the local folder of a run at an URL, ``runs/<the URL's last name>-<digest>``; it is made where it is not there.

    A part of its creatives, by a name that a file may have, is drawn in a folder of its own.
    """
    url, folder = url.rstrip("/"), _place_of(url, part)
    if Home.of(folder) is None:
        Remote(url)  # so that a mistyped one leaves nothing behind
        write_json(folder / FILE, {"url": url, "writer": secrets.token_hex(8)})
    return folder


def _place_of(url: str, part: str = "") -> Path:
    url = url.rstrip("/")
    return Path("runs") / "-".join(filter(None, (url.rpartition("/")[2], digest(url)[:8], part)))


class Home:
    """The URL at which what a local folder finishes is kept.

    Parameters
    ----------
    root
        The local folder.
    url
        The URL.
    writer
        Identifies the folder among those that have ever written there.
    """

    def __init__(self, root: Path, url: str, writer: str) -> None:
        self.url, self._root, self._writer = url, root, writer
        self._taken: dict[str, tuple[int, int]] = {}  # files beside the tasks', as they were taken
        self._shares = False

    @classmethod
    def of(cls, root: Path) -> Home | None:
        """Return a folder's home; None where it is a run's of this machine alone."""
        found = read_json(root / FILE)
        return None if found is None else cls(root, found["url"], found["writer"])

    @cached_property
    def _remote(self) -> Remote:
        return Remote(self.url)

    @cached_property
    def _lease(self) -> Lease:
        return Lease(self._remote, self._writer)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the one who writes to the URL, with a folder that is in line; the folder is locked.

        Raises
        ------
        UserError
            If another machine is at work on it.
        """
        with self._lease.held():
            if self._last_writer() not in (None, self._writer):
                self._bring_in_line()
            self._complete()
            self._remote.commit(_WRITER, b'{"writer": "%s"}' % self._writer.encode())
            try:
                yield
            finally:
                with suppress(UserError):  # the log of a run that ends because nothing can be written
                    self._take_beside()

    @contextmanager
    def shared(self, part: str) -> Iterator[None]:
        """Be one of those who write parts of the creatives to the URL, and nothing else of the run's; the folder is locked.

        The folder then has what is finished at the URL. Of what is not, chunks are fetched by `obtain`: another machine may have
        begun them anew, under the same names.

        Raises
        ------
        UserError
            If a run is at work there, or another machine at the same part.
        """
        self._lease, log = Lease(self._remote, self._writer, part), f"{PARTS}{part}.txt"
        with self._lease.held():
            self._remote.commit(_WRITER, b'{"writer": ""}')  # from now on no folder is in line
            sizes = self._remote.sizes()
            for name in self._files_in([_RECORDS, PARTS, *_CHUNKS]):
                (self._root / name).unlink()
            records = self._records(sizes)
            written = _written(records)
            self._fetch([name for name in sizes if not name.startswith(_CHUNKS) or name in written], records)
            self._shares = True
            try:
                yield
            finally:
                self._shares = False
                with suppress(UserError):
                    if (self._root / log).is_file():
                        self._remote.commit(log, (self._root / log).read_bytes())

    @contextmanager
    def turn(self, names: Sequence[str]) -> Iterator[None]:
        """Wait until no other part does so and be the only one; files of these names are then what they are at the URL."""
        with Lease.of_turn(self._remote, self._writer).held():
            for name in names:
                data = self._remote.read(name)
                if data is None:
                    (self._root / name).unlink(missing_ok=True)
                else:
                    write_bytes(self._root / name, data)
            yield

    def obtain(self, names: Sequence[str]) -> None:
        """Fetch those of some files that are at the URL and not here."""
        there: dict[str, int] = {}
        for folder in sorted({str(Path(name).parent) for name in names}):
            there |= self._remote.sizes(folder)
        self._remote.get(
            self._root, [name for name in names if name in there and not (self._root / name).exists()]
        )

    def is_begun(self) -> bool:
        """Return whether any task of a run is recorded at the URL."""
        return bool(self._remote.sizes(_RECORDS.rstrip("/")))

    def publish(self, names: Sequence[str], last: str) -> None:
        """Take finished files to the URL, and then `last`, without which they do not count.

        Raises
        ------
        UserError
            If that cannot be done, or another machine has taken over.
        """
        self._lease.check()
        self._remote.put(self._root, names)
        self._remote.commit(last, (self._root / last).read_bytes())

    def begin(self, started: str) -> None:
        """Say at the URL what is begun."""
        if not self._shares:
            self._take_beside()
        self.publish([], started)

    def finish(self, outputs: Sequence[str], record: str, started: str) -> None:
        """Take what a task has written and its record to the URL; what went there chunk by chunk is there already."""
        there: dict[str, int] = {}
        for folder in sorted({str(Path(name).parent) for name in outputs if name.startswith(_CHUNKS)}):
            there |= self._remote.sizes(folder)
        self._take_beside()
        self.publish([name for name in outputs if there.get(name) != _size(self._root / name)], record)
        self._remote.remove([started])

    def remove(self, names: Sequence[str]) -> None:
        """Remove files and folders at the URL, in this order."""
        self._lease.check()
        self._remote.remove(names)

    def contents(self) -> tuple[dict[str, int], dict[str, Mapping[str, Any]]]:
        """Return the bytes of files at the URL by their names, half-written ones among them, and the records by their tasks."""
        sizes = {
            name: int(entry["size"])
            for name, entry in self._remote.entries().items()
            if not name.startswith(LEASE)
        }
        records = self._records(name for name in sizes if name.endswith(".json"))
        return sizes, {Path(name).stem: _parsed(data) for name, data in records.items()}

    @contextmanager
    def cleaning(self, names: Sequence[str]) -> Iterator[None]:
        """Remove files at the URL as the one who writes there; the folder, which is locked, is not brought in line.

        A folder of another machine's that was in line is so no more: it would take its copies there again.

        Raises
        ------
        UserError
            If another machine is at work on it.
        """
        with self._lease.held():
            ours = self._last_writer() in (None, self._writer)
            self._remote.remove_files(names)
            if not ours and _WRITER not in names:
                self._remote.commit(_WRITER, b'{"writer": ""}')
            yield

    def fetch(self, names: Collection[str] | None = None) -> None:
        """Fetch what is finished, or of it what is named, to be read. A folder that a run is at work in is left alone.

        Raises
        ------
        UserError
            If there is no run.
        """
        with suppress(Held), try_lock(self._root / ".lock"):
            if self._last_writer() == self._writer:
                return
            sizes = self._remote.sizes()
            if "config.yaml" not in sizes:
                raise UserError(
                    f"run at {self.url}",
                    found="no config.yaml there",
                    expected="the URL of a run",
                    todo=f"Make one first: recgen run --config ... --out {self.url}.",
                )
            self._fetch([name for name in sizes if names is None or name in names], self._records(sizes))

    def _last_writer(self) -> str | None:
        return (self._remote.read_json(_WRITER) or {}).get("writer")

    def _bring_in_line(self) -> None:
        """Make the folder what is at the URL; what else is in it stays, but for records and chunks, which would count."""
        sizes = self._remote.sizes()
        for name in [*self._files_in([_RECORDS, PARTS]), *self._files_in(_CHUNKS)]:
            if name.startswith((_RECORDS, PARTS)) or name not in sizes:
                (self._root / name).unlink()
        self._fetch(sizes, self._records(sizes))

    def _records(self, sizes: Iterable[str]) -> dict[str, bytes]:
        return self._remote.read_all([name for name in sizes if name.startswith(_RECORDS)])

    def _fetch(self, names: Iterable[str], records: Mapping[str, bytes]) -> None:
        """Fetch files, but for those that are here as on record, and then write the records."""
        facts, apart = _written(records), {*records, _WRITER}
        absent = sorted(
            name
            for name in names
            if name not in apart
            and not name.startswith(LEASE)
            and not (name in facts and is_as_written(self._root / name, facts[name]))
        )
        self._remote.get(self._root, absent)
        for name in absent:
            if name in facts and is_as_written(self._root / name, facts[name], thorough=True):
                os.utime(
                    self._root / name, ns=(facts[name]["mtime_ns"],) * 2
                )  # known to be whole from now on
        for name, data in records.items():
            write_bytes(self._root / name, data)
        if absent:
            size = sum((self._root / name).stat().st_size for name in absent)
            logger.info("%s: %d files fetched, %.1f MiB", self.url, len(absent), size / 2**20)

    def _complete(self) -> None:
        """Fetch what a folder in line has lost, and take away what a killed process has not."""
        sizes = self._remote.sizes()
        records = self._records(sizes)
        lost = {name for name in sizes if not (self._root / name).exists()}
        self._fetch(lost, {name: data for name, data in records.items() if name in lost})
        chunks = [name for name in self._files_in(_CHUNKS) if name not in sizes]
        self._remote.put(self._root, [name for name in chunks if not name.endswith(".parquet")])
        for name in chunks:
            if name.endswith(".parquet"):
                self.publish([], name)
        for name in self._files_in([_RECORDS]):
            if (self._root / name).read_bytes() != records.get(name):
                self._take_record(name)

    def _take_record(self, name: str) -> None:
        """Take a record to the URL that is here alone, and of a finished task what it has written."""
        facts = _written({name: (self._root / name).read_bytes()})
        if name.endswith(".started"):
            self.publish([], name)
        elif all(is_as_written(self._root / each, facts[each]) for each in facts):
            self.finish(list(facts), name, str(Path(name).with_suffix(".started")))

    def _files_in(self, folders: Iterable[str]) -> list[str]:
        paths = [path for folder in folders for path in (self._root / folder).rglob("*") if path.is_file()]
        return [
            path.relative_to(self._root).as_posix() for path in paths if not path.name.startswith(TEMPORARY)
        ]

    def _take_beside(self) -> None:
        """Take the files of no task to the URL, those that have changed."""
        for name in _BESIDE:
            path = self._root / name
            if not path.is_file():
                continue
            state = (path.stat().st_size, path.stat().st_mtime_ns)
            if self._taken.get(name) != state:
                self._remote.commit(name, _whole(path) if name == _ANSWERS else path.read_bytes())
                self._taken[name] = state


def _parsed(data: bytes) -> Mapping[str, Any]:
    """Return a record; an empty one where it is damaged."""
    with suppress(ValueError):
        found = json.loads(data)
        return found if isinstance(found, dict) else {}
    return {}


def _written(records: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Return what is on record of each file that tasks have written."""
    found: dict[str, dict[str, Any]] = {}
    for data in records.values():
        with suppress(ValueError):
            record = json.loads(data)
            found |= {**record.get(OWNED, {}), **record.get("outputs", {})}
    return found


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _whole(database: Path) -> bytes:
    """Return a database's contents as of the last transaction that is finished."""
    with closing(sqlite3.connect(database)) as file, closing(sqlite3.connect(":memory:")) as copy:
        file.backup(copy)
        return copy.serialize()
