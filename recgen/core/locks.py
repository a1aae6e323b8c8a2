"""One process at a time in a folder, or several that draw parts of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recgen.core.errors import UserError
from recgen.core.machine import Held, try_lock


@contextmanager
def folder_lock(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder against other processes; the system lets go of it when this process ends, however it ends.

    Parameters
    ----------
    folder
        The folder, which exists; its ``.lock`` says which process holds it.
    what
        What the folder is, for the message.

    Raises
    ------
    UserError
        When another process holds it.
    """
    lock = folder / ".lock"
    try:
        with try_lock(lock):
            lock.write_text(str(os.getpid()))
            yield
    except Held as error:
        raise _at_work(folder, what) from error


@contextmanager
def shared_lock(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder together with others that share it, against whoever wants it alone; arguments and errors of `folder_lock`."""
    try:
        with try_lock(folder / ".lock", shared=True):
            yield
    except Held as error:
        raise _at_work(folder, what) from error


def _at_work(folder: Path, what: str) -> UserError:
    lock = folder / ".lock"
    process = lock.read_text().strip() or "unknown"
    try:
        with try_lock(lock, shared=True):
            found = "processes at work in it that draw parts of its creatives"
    except Held:
        found = f"process {process} at work in it"
    return UserError(
        f"{what} {folder}",
        found=found,
        expected="no other run",
        todo="Wait for it to end, or give another folder with --out.",
    )
