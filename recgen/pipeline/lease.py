"""One writer at a time at an URL, where there are no locks: an object that names the writer, and that a living one renews.

A writer that has been killed renews nothing. Whoever comes next watches its object for a while and, where nothing changes, takes
its place; nobody's clock is compared with another's. A writer that was stopped for longer than that, such as a suspended
machine, finds before it writes anything of weight that its place is taken, and ends.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from recgen.core.errors import UserError
from recgen.core.remote import Remote

logger = logging.getLogger("recgen")

NAME = ".lease"
RENEWED = 15.0
"""Seconds after which a writer renews its lease."""
PATIENCE = 75.0
"""Seconds without a renewal after which a writer is taken for dead."""


class Lease:
    """The right to write at an URL.

    Parameters
    ----------
    remote
        The place.
    writer
        Identifies the local folder that the writer works in. One process at a time works in it, so that a lease of this writer's
        is one that a killed process has left.
    """

    def __init__(self, remote: Remote, writer: str) -> None:
        self._remote, self._writer = remote, writer
        self._renewals = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease.

        Raises
        ------
        UserError
            If another writer is alive.
        """
        self._acquire()
        ended = threading.Event()
        thread = threading.Thread(target=self._renew, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with suppress(UserError):
                if self._is_mine():
                    self._remote.remove([NAME])

    def check(self) -> None:
        """Make sure that the lease is still this writer's.

        Raises
        ------
        UserError
            If another has it.
        """
        if not self._is_mine():
            raise _taken(self._remote, self._remote.read_json(NAME), "Its run goes on with what is finished.")

    def _acquire(self) -> None:
        found, since = None, time.monotonic()
        while not self._remote.create(NAME, self._text()):
            other = self._remote.read_json(NAME)
            if other is not None and other.get("writer") == self._writer:
                self._remote.commit(NAME, self._text())
                return
            if found is None and other is not None:
                logger.info("%s: waiting to see whether %s is alive", self._remote.url, _named(other))
                found, since = other, time.monotonic()
            elif other is not None and other != found:
                raise _taken(self._remote, other, "Wait for it to end, or give another URL with --out.")
            elif time.monotonic() - since > PATIENCE:
                logger.info("%s: %s has been silent for %.0f s", self._remote.url, _named(found), PATIENCE)
                self._remote.remove([NAME])
            time.sleep(min(1.0, PATIENCE / 5))

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(RENEWED):
            with suppress(UserError):  # the network may be back in time; else the next check says so
                if not self._is_mine():
                    return
                self._renewals += 1
                self._remote.commit(NAME, self._text())

    def _is_mine(self) -> bool:
        return (self._remote.read_json(NAME) or {}).get("writer") == self._writer

    def _text(self) -> bytes:
        process = {"writer": self._writer, "host": socket.gethostname(), "process": os.getpid()}
        return json.dumps({**process, "renewals": self._renewals}).encode()


def _named(lease: dict[str, Any] | None) -> str:
    found = lease or {}
    return f"process {found.get('process', 'unknown')} on {found.get('host', 'an unknown machine')}"


def _taken(remote: Remote, lease: dict[str, Any] | None, todo: str) -> UserError:
    return UserError(
        f"run at {remote.url}", found=f"{_named(lease)} at work on it", expected="no other run", todo=todo
    )
