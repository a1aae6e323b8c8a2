"""A run's folder: what is finished, by fingerprint; atomic writes; one process at a time.

Every piece of work (a *task*) has a fingerprint: a digest of the settings it reads, of the files it reads and of the
fingerprints of the tasks before it. A task is finished when its record carries its fingerprint and its outputs are there;
it is then never done again. A task that is interrupted and starts again with the same fingerprint finds what it had
written; with another fingerprint its old outputs are removed first.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from recgen.core.errors import UserError
from recgen.core.io import TEMPORARY, read_json, write_json
from recgen.core.machine import Held, try_lock


class Workspace:
    """The folder of one run.

    Parameters
    ----------
    root
        The folder; it is made when it is not there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder against other processes; the system lets go of it when this process ends, however it ends."""
        lock = self.root / ".lock"
        try:
            with try_lock(lock):
                lock.write_text(str(os.getpid()))
                self._sweep()
                yield
        except Held as error:
            raise UserError(
                f"run folder {self.root}",
                found=f"process {lock.read_text().strip() or 'unknown'} at work in it",
                expected="no other run",
                todo="Wait for it to end, or give another folder with --out.",
            ) from error

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the folder as `lock` does where it can be written; a read-only one changes under nobody's hands."""
        try:
            (self.root / ".lock").touch()
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            yield
            return
        with self.lock():
            yield

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
        """Return whether the task has a record of this fingerprint and its outputs are still there."""
        record = read_json(self.record(task))
        if record is None or record.get("fingerprint") != fingerprint:
            return False
        return all((self.root / output).exists() for output in record["outputs"])

    def outputs(self, task: str) -> list[str]:
        """Return the outputs on record of a finished task, relative to the folder."""
        return (read_json(self.record(task)) or {"outputs": []})["outputs"]

    def begin(self, task: str, fingerprint: str, owned: Iterable[str]) -> None:
        """Open a task: keep what an interrupted run of the same fingerprint left, remove any other's outputs."""
        self.record(task).unlink(missing_ok=True)
        started = self.record(task, "started")
        if (read_json(started) or {}).get("fingerprint") == fingerprint:
            return
        for output in owned:
            path = self.root / output
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        write_json(started, {"fingerprint": fingerprint})

    def finish(self, task: str, fingerprint: str, seconds: float, outputs: Iterable[Path]) -> None:
        """Record a task as finished."""
        names = [str(path.relative_to(self.root)) for path in outputs]
        record = {"fingerprint": fingerprint, "seconds": round(seconds, 3), "outputs": names}
        write_json(self.record(task), record)
        self.record(task, "started").unlink(missing_ok=True)

    def forget(self, task: str) -> None:
        """Make a task count as never started."""
        self.record(task).unlink(missing_ok=True)
        self.record(task, "started").unlink(missing_ok=True)

    def seconds(self) -> dict[str, float]:
        """Return how long each finished task took, by name."""
        records = {path.stem: read_json(path) for path in sorted((self.root / "stages").glob("*.json"))}
        return {name: record["seconds"] for name, record in records.items() if record}
