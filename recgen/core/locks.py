"""A folder held by one process at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recgen.core.errors import UserError


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
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise UserError(
                f"{what} {folder}",
                found=f"process {holder} at work in it",
                expected="no other run",
                todo="Wait for it to end, or give another folder with --out.",
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
