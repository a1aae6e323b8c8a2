"""One writer at a time at an URL, where there are no locks: an object that names the writer, and that a living one renews.

Parts of a run's creatives are drawn by many writers at once: each has an object of its own, and none is there beside a run's.

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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from recgen.core.errors import UserError
from recgen.core.remote import Remote

logger = logging.getLogger("recgen")

NAME = ".lease"
"""The object of a run. Those of parts, and of what parts do in turn, have names that begin so."""
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
    part
        The part that is drawn, by a name that a file may have; None for a run, beside which nobody writes.
    """

    def __init__(self, remote: Remote, writer: str, part: str | None = None) -> None:
        self._remote, self._writer = remote, writer
        self._name = NAME if part is None else f"{NAME}-{part}"
        self._renewals = 0
        self._patient = False

    @classmethod
    def of_turn(cls, remote: Remote, writer: str) -> Lease:
        """Return what parts hold in turn: who finds it taken waits."""
        made = cls(remote, writer, "turn")
        made._patient = True
        return made

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease.

        Raises
        ------
        UserError
            If another writer is alive, for a part another one of the same part, or a run.
        """
        self._acquire()
        ended = threading.Event()
        thread = threading.Thread(target=self._renew, args=(ended,), daemon=True)
        thread.start()
        try:
            if not self._patient:
                self._outlast(self._others())
            yield
        finally:
            ended.set()
            thread.join()
            with suppress(UserError):
                if self._is_mine():
                    self._remote.remove([self._name])

    def check(self) -> None:
        """Make sure that the lease is still this writer's.

        Raises
        ------
        UserError
            If another has it.
        """
        if not self._is_mine():
            other = self._remote.read_json(self._name) or self._remote.read_json(NAME)
            raise _taken(self._remote, other, "Its run goes on with what is finished.")

    def _acquire(self) -> None:
        found, since = None, time.monotonic()
        while not self._remote.create(self._name, self._text()):
            other = self._remote.read_json(self._name)
            if other is not None and other.get("writer") == self._writer:
                self._remote.commit(self._name, self._text())
                return
            if other is not None and (found is None or (self._patient and other != found)):
                if not self._patient:
                    logger.info("%s: waiting to see whether %s is alive", self._remote.url, _named(other))
                found, since = other, time.monotonic()
            elif other is not None and other != found:
                raise _taken(
                    self._remote, other, "Wait for it to end, or give another URL with --out.", self._name
                )
            elif time.monotonic() - since > PATIENCE:
                logger.info("%s: %s has been silent for %.0f s", self._remote.url, _named(found), PATIENCE)
                self._remote.remove([self._name])
            time.sleep(min(1.0, PATIENCE / 5))

    def _others(self) -> list[str]:
        """Return the names of objects beside which nobody writes here: of a part the run's, of a run the parts'."""
        if self._name != NAME:
            return [NAME]
        return [name for name in self._remote.entries(deep=False) if name.startswith(f"{NAME}-")]

    def _outlast(self, names: Iterable[str]) -> None:
        """Wait until writers that others' objects name have been silent for long enough, and remove what they have left.

        Who has an object here has written it before it looks for others', so that of two at least one finds the other.
        """
        read = {name: self._remote.read_json(name) for name in names}
        found, since = {name: other for name, other in read.items() if other is not None}, time.monotonic()
        if found:
            one = next(iter(found.values()))
            logger.info("%s: waiting to see whether %s is alive", self._remote.url, _named(one))
        while found and time.monotonic() - since <= PATIENCE:
            time.sleep(min(1.0, PATIENCE / 5))
            for name, before in list(found.items()):
                other = self._remote.read_json(name)
                if other is None:
                    del found[name]
                elif other != before:
                    raise _taken(
                        self._remote, other, "Wait for it to end, or give another URL with --out.", name
                    )
        self._remote.remove(found)

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(RENEWED):
            with suppress(UserError):  # the network may be back in time; else the next check says so
                if not self._is_mine():
                    return
                self._renewals += 1
                self._remote.commit(self._name, self._text())

    def _is_mine(self) -> bool:
        return (self._remote.read_json(self._name) or {}).get("writer") == self._writer

    def _text(self) -> bytes:
        process = {"writer": self._writer, "host": socket.gethostname(), "process": os.getpid()}
        return json.dumps({**process, "renewals": self._renewals}).encode()


def _named(lease: dict[str, Any] | None) -> str:
    found = lease or {}
    return f"process {found.get('process', 'unknown')} on {found.get('host', 'an unknown machine')}"


def _taken(remote: Remote, lease: dict[str, Any] | None, todo: str, name: str = NAME) -> UserError:
    part = name.removeprefix(f"{NAME}-").replace("-of-", "/")
    work = "at work on it" if name == NAME else f"at work on it, which draws part {part} of its creatives"
    return UserError(
        f"run at {remote.url}", found=f"{_named(lease)} {work}", expected="no other run", todo=todo
    )
