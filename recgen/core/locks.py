"""One process at a time in a folder, or several that draw parts of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from recgen.core.errors import UserError
from recgen.core.machine import Held, try_lock

_PATIENCE = 10.0  # seconds for the workers of a process that was killed to end


@contextmanager
def folder_lock(folder: Path, what: str) -> Iterator[int | None]:
    """Hold a folder against other processes; the system lets go of it when this process ends, however it ends.

    Parameters
    ----------
    folder
        The folder, which exists; its ``.lock`` says which process holds it.
    what
        What the folder is, for the message.

    Yields
    ------
    The lock's file descriptor, or None where there is no `fcntl`, to pass on to processes that work in the folder for this one.

    Raises
    ------
    UserError
        When another process holds it. One that has been killed does for the moment that its workers take to notice; this is
        waited for.
    """
    lock, stack = folder / ".lock", ExitStack()
    held = _acquired(stack, lock, what, time.monotonic() + _PATIENCE)
    with stack:
        lock.write_text(str(os.getpid()))
        yield held


def _acquired(stack: ExitStack, lock: Path, what: str, deadline: float) -> int | None:
    """Enter the lock of a folder on a stack, as soon as those that work for a process that is gone have ended."""
    while True:
        try:
            return stack.enter_context(try_lock(lock))
        except Held as error:
            if _alive(lock) or time.monotonic() > deadline:
                raise _at_work(lock.parent, what) from error
        time.sleep(0.05)


def wait_until_free(file: Path) -> None:
    """Wait until nobody shares a lock any more, for a while at most; a file that is not there is free."""
    deadline = time.monotonic() + _PATIENCE
    while file.exists():
        with suppress(Held), try_lock(file):
            return
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def _alive(lock: Path) -> bool:
    """Return whether the process that a lock names may still be at work."""
    found = lock.read_text().strip()
    if not found.isdigit():
        return True
    try:
        os.kill(int(found), 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


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
