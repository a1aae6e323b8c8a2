"""Says how far long work is: one line that changes on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

logger = logging.getLogger("recgen")
_EVERY = {True: 0.1, False: 10.0}  # seconds between two lines, on a terminal and elsewhere
_last: dict[str, Any] = {"what": "", "time": 0.0}


def show(what: str, done: int, total: int) -> None:
    """Report that `done` of `total` steps of `what` are finished; generators get this as their progress callback."""
    terminal, now = sys.stderr.isatty(), time.monotonic()
    ended = done >= total
    if what == _last["what"] and not ended and now - _last["time"] < _EVERY[terminal]:
        return
    _last.update(what="" if ended else what, time=now)
    if terminal:
        filled = 30 * done // max(total, 1)
        bar = "#" * filled + "." * (30 - filled)
        print(f"\r  {what} [{bar}] {done}/{total}", end="\n" if ended else "", file=sys.stderr, flush=True)
    else:
        logger.info("  %s: %d/%d", what, done, total)
