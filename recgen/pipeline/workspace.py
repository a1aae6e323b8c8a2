"""A run's folder: what is finished, by fingerprint; atomic writes; one process at a time.

Every piece of work (a *task*) has a fingerprint: a digest of the settings it reads, of the files it reads and of the
fingerprints of the tasks before it. A task is finished when its record carries its fingerprint and its outputs are there;
it is then never done again. An output is taken as it is while its size and time of change are those on record, and else
compared with its digest; a damaged one is made again. A task that is interrupted and starts again with the same
fingerprint finds what it had written; with another fingerprint its old outputs are removed first.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

from recgen.core.errors import UserError
from recgen.core.io import TEMPORARY, file_facts, is_as_written, read_json, write_json
from recgen.core.locks import folder_lock, shared_lock, wait_until_free
from recgen.core.machine import Held, try_lock, wait_lock
from recgen.pipeline.home import OWNED, Home

_FACTS = {"size", "mtime_ns", "blake2b"}  # of an output, in the record of its task


ACTORS = ".actors"
"""Held by Ray's actors, which end a moment after the process that started them has been killed."""


class Workspace:
    """The folder of one run.

    Parameters
    ----------
    root
        The folder; it is made when it is not there.

    Attributes
    ----------
    held
        While the folder is locked, the lock's file descriptor, to pass on to processes that work in the folder for this one.

    Raises
    ------
    UserError
        If there is something else of that name, or the folder cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.held: int | None = None
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _no_folder(root, error) from error

    @cached_property
    def home(self) -> Home | None:
        """Where what is finished is taken to; None for a run of this machine alone."""
        return Home.of(self.root)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder against other processes, and the run's URL against other machines; see `recgen.pipeline.home`.

        The system lets go of the folder when this process ends, however it ends.
        """
        with self._alone(), nullcontext() if self.home is None else self.home.held():
            yield

    @contextmanager
    def cleaning(self, names: Sequence[str]) -> Iterator[None]:
        """Hold the folder against other processes, and have files removed at the run's URL; see `recgen.pipeline.home`."""
        assert self.home is not None
        with self._alone(), self.home.cleaning(names):
            yield

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder against other processes of this machine."""
        try:
            (self.root / ".lock").touch()
        except OSError as error:
            raise _no_folder(self.root, error) from error
        with folder_lock(self.root, "run folder") as self.held:
            wait_until_free(self.root / ACTORS)
            self._sweep()
            try:
                yield
            finally:
                self.held = None

    @contextmanager
    def sharing(self, part: str | None = None) -> Iterator[None]:
        """Hold the folder together with other processes that draw parts of it, against runs; nothing half-written is removed.

        Where the run has a home, a process that draws a part by this name has the folder to itself and shares the URL.
        """
        if self.home is not None and part is not None:
            with self._alone(), self.home.shared(part):
                yield
            return
        try:
            (self.root / ".lock").touch()
        except OSError as error:
            raise _no_folder(self.root, error) from error
        with shared_lock(self.root, "run folder"):
            yield

    def join(self, task: str, fingerprint: str, owned: Iterable[str]) -> list[str]:
        """Open a task as `begin` does, in turn with others that share the folder: the first to come empties its place."""
        names = [self._name(self.record(task, kind)) for kind in ("json", "started")]
        with wait_lock(self.root / ".turns", task) if self.home is None else self.home.turn(names):
            return self.begin(task, fingerprint, owned)

    def obtain(self, files: Iterable[Path]) -> None:
        """Fetch those of some files that are at the run's home and not here, where it has one."""
        if self.home is not None:
            self.home.obtain([self._name(file) for file in files])

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the folder where it can be written; a read-only one changes under nobody's hands."""
        if self._read_only():
            yield
            return
        with self._alone():
            yield

    def _read_only(self) -> bool:
        try:
            (self.root / ".lock").touch()
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return True
        return False

    def busy(self) -> bool:
        """Return whether a process holds the folder at this moment."""
        if not (self.root / ".lock").exists():
            return False
        try:
            with try_lock(self.root / ".lock"):
                return False
        except Held:
            return True

    def _sweep(self) -> None:
        """Remove what a killed process was in the middle of writing."""
        for temporary in self.root.rglob(f"{TEMPORARY}*"):
            if temporary.is_dir():
                shutil.rmtree(temporary)
            else:
                temporary.unlink()

    def record(self, task: str, kind: str = "json") -> Path:
        """Return where it is recorded that a task is finished, or (`started`) begun."""
        return self.root / "stages" / f"{task.replace('/', '.')}.{kind}"

    def finished(self, task: str, fingerprint: str) -> bool:
        """Return whether the task has a record of this fingerprint and its outputs are there, as they were written."""
        record = _read_record(self.record(task))
        return record is not None and record["fingerprint"] == fingerprint and not self._damaged(record)

    def damaged(self, task: str, thorough: bool = True) -> list[str]:
        """Return the outputs on record of a task that are absent or not as they were written, relative to the folder.

        Parameters
        ----------
        task
            The task's name.
        thorough
            Compare the contents of every file; else only of those whose size is right and whose time of change is another.
        """
        record = _read_record(self.record(task))
        return [] if record is None else self._damaged(record, thorough)

    def verify(self) -> dict[str, list[str]]:
        """Compare every output on record with its digest; return the damaged ones by task, in which they are then made again.

        Their times on record are taken back, so that the next run, which trusts a file of the right size and time, looks at them.
        A record that cannot be read is itself damaged. The caller holds the folder by `reading`.
        """
        found: dict[str, list[str]] = {}
        writable = not self._read_only()
        for path in sorted((self.root / "stages").glob("*.json")):
            record = _read_record(path)
            damaged = (
                [str(path.relative_to(self.root))] if record is None else self._damaged(record, thorough=True)
            )
            if damaged:
                found[path.stem] = damaged
            if damaged and record is not None and isinstance(record["outputs"], dict) and writable:
                for name in damaged:
                    record["outputs"][name]["mtime_ns"] = 0
                write_json(path, record)
        return found

    def _damaged(self, record: dict[str, Any], thorough: bool = False) -> list[str]:
        found = record["outputs"]
        if isinstance(found, list):  # a record of an earlier version, which knew names only
            return [name for name in found if not (self.root / name).exists()]
        return [name for name, facts in found.items() if not is_as_written(self.root / name, facts, thorough)]

    def outputs(self, task: str) -> list[str]:
        """Return the outputs on record of a finished task, relative to the folder."""
        return list((_read_record(self.record(task)) or {"outputs": []})["outputs"])

    def begin(self, task: str, fingerprint: str, owned: Iterable[str]) -> list[str]:
        """Open a task: keep what an interrupted run of the same fingerprint left, remove any other's outputs.

        Of a task that was finished under this fingerprint, only what is damaged is removed; its names are returned.
        """
        record, started = _read_record(self.record(task)), self.record(task, "started")
        damaged: list[str] = []
        if record is not None and record["fingerprint"] == fingerprint:
            gone = damaged = self._damaged(record)
        elif (read_json(started) or {}).get("fingerprint") == fingerprint:
            gone = []
        else:
            gone = list(owned)
        self.remove([self._name(self.record(task)), *gone])
        write_json(started, {"fingerprint": fingerprint})
        if self.home is not None:
            self.home.begin(self._name(started))
        return damaged

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def remove(self, names: Sequence[str]) -> None:
        """Remove files and folders, first at the run's home, so that nothing there outlives what is here."""
        if self.home is not None:
            self.home.remove(names)
        for name in names:
            path = self.root / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def finish(
        self,
        task: str,
        fingerprint: str,
        outputs: Iterable[Path],
        more: Mapping[str, Any] | None = None,
        owned: Iterable[str] = (),
    ) -> None:
        """Record a task as finished.

        Parameters
        ----------
        task, fingerprint
            Its name and its fingerprint.
        outputs
            The files and folders it wrote, of which size, time and digest are recorded.
        more
            What `Usage.report` says.
        owned
            What else the task owns, by name: of a run with a home it is taken there too.
        """
        found = {name: file_facts(self.root / name) for name in self._files(outputs)}
        record, started = self.record(task), self.record(task, "started")
        kept = {"fingerprint": fingerprint, "seconds": 0.0, "outputs": found, **(more or {})}
        if self.home is not None:
            places = [path for name in owned if (path := self.root / name).exists()]
            others = [name for name in self._files(places) if name not in found]
            kept[OWNED] = {name: file_facts(self.root / name) for name in others}
        write_json(record, kept)
        if self.home is not None:
            self.home.finish([*found, *kept[OWNED]], self._name(record), self._name(started))
        started.unlink(missing_ok=True)

    def _files(self, places: Iterable[Path]) -> list[str]:
        """Return the names of files and of what is below folders."""
        found: list[str] = []
        for path in places:
            files = [file for file in sorted(path.rglob("*")) if file.is_file()] if path.is_dir() else [path]
            found += [self._name(file) for file in files]
        return found

    def publish(self, files: Sequence[Path]) -> None:
        """Take files to the run's home, where it has one; the last of them is the one without which the others do not count."""
        if self.home is not None:
            *others, last = map(self._name, files)
            self.home.publish(others, last)

    def rewritten(self, task: str, output: Path) -> None:
        """Record an output of a finished task as it is now, after it was written anew on purpose."""
        record, name = _read_record(self.record(task)), self._name(output)
        if record is not None and isinstance(record["outputs"], dict) and name in record["outputs"]:
            record["outputs"][name] = file_facts(output)
            write_json(self.record(task), record)
            self.publish([output, self.record(task)])

    def forget(self, task: str) -> None:
        """Make a task count as never started."""
        self.remove([self._name(self.record(task, kind)) for kind in ("json", "started")])

    def seconds(self) -> dict[str, float]:
        """Return how long each finished task took, by name."""
        records = {path.stem: _read_record(path) for path in sorted((self.root / "stages").glob("*.json"))}
        return {name: float(record.get("seconds", 0.0)) for name, record in records.items() if record}


def _read_record(path: Path) -> dict[str, Any] | None:
    """Return a finished task's record, or None where there is none that can be read."""
    record = read_json(path)
    if record is None or not isinstance(record.get("fingerprint"), str):
        return None
    outputs = record.get("outputs")
    if isinstance(outputs, dict):
        whole = all(isinstance(facts, dict) and facts.keys() >= _FACTS for facts in outputs.values())
        return record if whole else None
    return record if isinstance(outputs, list) and all(isinstance(name, str) for name in outputs) else None


def _no_folder(root: Path, error: OSError) -> UserError:
    """Return the error of a run's folder that cannot be written to."""
    return UserError(
        f"run folder {root}",
        found=(error.strerror or type(error).__name__).lower(),
        expected="a folder that can be written to, or a name that is free",
        todo="Give another folder with --out.",
    )
