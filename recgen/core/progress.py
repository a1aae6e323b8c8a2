"""Says how far long work is: one bar that changes on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass

logger = logging.getLogger("recgen")
_EVERY = {True: 0.1, False: 10.0}  # seconds between two lines, on a terminal and elsewhere
_SURE = 2.0  # seconds of work before a rate is believed


@dataclass
class _Shown:
    """What is shown at the moment, since when, from which step on, and when it was last said."""

    what: str = ""
    started: float = 0.0
    first: int = 0
    last: float = 0.0


_shown = _Shown()


def show(what: str, done: int, total: int, note: str = "") -> None:
    """Report that `done` of `total` steps of `what` are finished; generators get this as their progress callback.

    Parameters
    ----------
    what
        What is done, the same for all its steps.
    done, total
        Steps.
    note
        What else to say, such as a score.
    """
    terminal, now = sys.stderr.isatty(), time.monotonic()
    ended = done >= total
    if what != _shown.what:
        end()
        _shown.what, _shown.started, _shown.first = what, now, done
    elif not ended and now - _shown.last < _EVERY[terminal]:
        return
    _shown.last = now
    parts = [f"{done}/{total}", *([note] if note else []), *_left(done, total, now)]
    if terminal:
        filled = 30 * done // max(total, 1)
        bar = "#" * filled + "." * (30 - filled)
        print(f"\r  {what} [{bar}] {', '.join(parts)}\x1b[K", end="", file=sys.stderr, flush=True)
    else:
        logger.info("  %s: %s", what, ", ".join(parts))
    if ended:
        end()


def end() -> None:
    """Close what is shown: on a terminal what comes next begins a line of its own."""
    if _shown.what and sys.stderr.isatty():
        print(file=sys.stderr, flush=True)
    _shown.what = ""


def duration(seconds: float) -> str:
    """Return seconds as people say them.

    >>> [duration(s) for s in (0.4, 42, 89, 100, 3000, 5400, 200_000)]
    ['1 s', '42 s', '89 s', '2 min', '50 min', '1.5 h', '56 h']
    """
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    if seconds < 90 * 60 - 1:
        return f"{round(seconds / 60)} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 10 else f"{hours:,.0f} h"


def _left(done: int, total: int, now: float) -> list[str]:
    steps, seconds = done - _shown.first, now - _shown.started
    if steps <= 0 or done >= total or seconds < _SURE:
        return []
    return [f"about {duration(seconds / steps * (total - done))} left"]
