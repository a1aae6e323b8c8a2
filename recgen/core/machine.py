"""What differs between operating systems: locks on files, and how many cores and how much memory this process may use."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from recgen.core import cgroup

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Held(Exception):
    """Another process holds the lock."""


def cores() -> int:
    """Return how many cores this process may use: a container's share, else the machine's where the system does not say."""
    may = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(may, cgroup.cores() or may)


def threads() -> int:
    """Return how many threads networks should take: what the user's OMP_NUM_THREADS says, else a thread a core."""
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(told) if told.isdigit() and int(told) > 0 else cores()


def available_memory() -> float | None:
    """Return how many GiB this process can still take, of the machine's memory and a container's share; None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / 2**20
    except (OSError, StopIteration):
        return None
    share = cgroup.free_memory()
    return free if share is None else min(free, share)


def return_heap() -> None:
    """Give the system back what this process has freed: glibc keeps freed blocks below 32 MiB, and most tensors are such.

    Elsewhere this does nothing.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


@contextmanager
def try_lock(file: Path, shared: bool = False) -> Iterator[int | None]:
    """Hold a file against other processes; the system lets go of it when this process ends, however it ends.

    Parameters
    ----------
    file
        The file, which is made where it is not there.
    shared
        Hold it together with others that share it, against whoever wants it alone. Where there is no `fcntl` nothing is held.

    Yields
    ------
    The lock's file descriptor, or None where there is no `fcntl`. Processes that it is passed on to hold the file too, until the
    last of them has ended.

    Raises
    ------
    Held
        At once, if another process holds it.
    """
    if fcntl is None:
        from filelock import FileLock, Timeout

        if shared:
            yield None
            return
        try:
            with FileLock(f"{file}.held", timeout=0):
                yield None
        except Timeout as error:
            raise Held(str(file)) from error
        return
    with file.open("a") as held:
        try:
            fcntl.flock(held, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Held(str(file)) from error
        yield held.fileno()


@contextmanager
def wait_lock(file: Path, key: str = "", patient: bool = True) -> Iterator[None]:
    """Wait until no other process is inside with the same file and key; the system ends the turn of one that is killed.

    Every key is another byte of the file to lock, so that no file is left behind for each; where bytes cannot be locked each has
    a file. Turns of one file must not be nested.

    Raises
    ------
    Held
        With `patient=False`, at once, if another process is inside.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    digest = blake2b(key.encode(), digest_size=7)
    if fcntl is None:
        from filelock import FileLock, Timeout

        try:
            with FileLock(f"{file}.{digest.hexdigest()}", timeout=-1 if patient else 0):
                yield
        except Timeout as error:
            raise Held(str(file)) from error
        return
    with file.open("a") as held:
        how = fcntl.LOCK_EX if patient else fcntl.LOCK_EX | fcntl.LOCK_NB
        try:
            fcntl.lockf(held, how, 1, int.from_bytes(digest.digest(), "big"))
        except (BlockingIOError, PermissionError) as error:  # POSIX leaves it to the system which
            raise Held(str(file)) from error
        yield
