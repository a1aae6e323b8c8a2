"""Writes what was shown: many requests' rows in one commit, and no request is answered before its own is committed."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from pathlib import Path

from recgen.serving.store import Impression, Store

logger = logging.getLogger("recgen")
Row = tuple[Impression, tuple[str, str] | None]
_AT_ONCE = 1_000  # rows a commit, at most


class Writer:
    """A thread that writes to the store of a run.

    Parameters
    ----------
    folder, database
        See `recgen.serving.store.Store`.
    """

    def __init__(self, folder: Path, database: str | None = None) -> None:
        self._folder, self._database = folder, database
        self._rows: queue.SimpleQueue[tuple[Row, asyncio.Future[None], asyncio.AbstractEventLoop] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._write, name="recgen-impressions", daemon=True)
        self._thread.start()

    async def log(self, impression: Impression, miss: tuple[str, str] | None) -> None:
        """Write one impression, and what was missing; return when it is committed."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._rows.put(((impression, miss), done, loop))
        await done

    def close(self) -> None:
        """Write what is left, and end."""
        self._rows.put(None)
        self._thread.join()

    def _write(self) -> None:
        store, more = Store(self._folder, self._database), True
        while more:
            batch = [self._rows.get()]
            while len(batch) < _AT_ONCE and not self._rows.empty():
                batch.append(self._rows.get())
            rows = [each for each in batch if each is not None]
            more = len(rows) == len(batch)
            error: Exception | None = None
            try:
                misses = [miss for (_, miss), _, _ in rows if miss is not None]
                store.log([impression for (impression, _), _, _ in rows], misses)
            except Exception as failed:  # the requests are told; the next ones are tried again
                logger.exception("impressions could not be written")
                error = failed
            for _, done, loop in rows:
                loop.call_soon_threadsafe(_tell, done, error)
        store.close()


def _tell(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():  # the client has gone
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
