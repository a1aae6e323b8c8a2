"""One process at a time in a folder."""

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
        raise UserError(
            f"{what} {folder}",
            found=f"process {lock.read_text().strip() or 'unknown'} at work in it",
            expected="no other run",
            todo="Wait for it to end, or give another folder with --out.",
        ) from error
