"""Runs that share their work: what one run has finished, another with the same fingerprint takes over by hard links.

The files of a finished task are only ever replaced, never written into (`recgen.core.io.write_bytes`), so that one file may
belong to many runs: it takes its place on the disk once, and stays until the last run that has it is gone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from recgen.core.io import TEMPORARY
from recgen.core.machine import wait_lock as file_lock
from recgen.pipeline.workspace import Workspace


class ArtifactCache:
    """A folder of runs that may take over each other's work, also while they are at it in several processes.

    Parameters
    ----------
    folder
        The folder that holds the runs' own folders.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lock(self, fingerprint: str) -> AbstractContextManager[None]:
        """Return a context manager that waits while another process is at the same task, so that it is done once."""
        return file_lock(self.folder / ".tasks", fingerprint)

    def take(self, to: Workspace, task: str, fingerprint: str, owned: Iterable[str]) -> str | None:
        """Take a finished task over from any other run; return that run's name, or None where nobody has it."""
        for other in self._finished(to, task, fingerprint):
            with suppress(FileNotFoundError):  # its folder is being emptied at this moment
                _link(other, to, task, fingerprint, list(owned))
                return other.root.name
        return None

    def has(self, to: Workspace, task: str, fingerprint: str) -> bool:
        """Return whether `take` would find the task at this moment; change nothing."""
        return any(self._finished(to, task, fingerprint))

    def _finished(self, to: Workspace, task: str, fingerprint: str) -> Iterator[Workspace]:
        """Yield the other runs that have finished a task."""
        for record in sorted(self.folder.glob(f"*/stages/{to.record(task).name}"), reverse=True):
            other = Workspace(record.parent.parent)
            if other.root != to.root and other.finished(task, fingerprint):
                yield other


def _link(other: Workspace, to: Workspace, task: str, fingerprint: str, owned: list[str]) -> None:
    """Give `to` the files and the record of a task that `other` has finished.

    Linked are the outputs on record and everything that the task owns. There is no record before all files are there, so that
    a kill in between costs no more than doing this again.
    """
    to.forget(task)
    to.begin(task, fingerprint, owned)
    to.forget(task)
    for name in dict.fromkeys([*other.outputs(task), *owned]):
        source = other.root / name
        files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
        for path in files:
            if not path.name.startswith(TEMPORARY):
                hard_link(path, to.root / path.relative_to(other.root))
    to.finish(task, fingerprint, [to.root / name for name in other.outputs(task)], owned=owned)


def hard_link(source: Path, target: Path) -> None:
    """Give a file a second name; where the file system has no hard links, copy it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target)
