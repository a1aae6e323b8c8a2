"""Says how far long work is: one bar that changes on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger("recgen")
_EVERY = {True: 0.1, False: 10.0}  # seconds between two lines, on a terminal and elsewhere
_SURE = 2.0  # seconds of work before a rate is believed


@dataclass(frozen=True)
class Step:
    """How far some work is: `done` of `total` steps of `what`, and what else there is to say."""

    what: str
    done: int
    total: int
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """``3/10, Recall@20 0.1, about 2 min left``."""
        return ", ".join((f"{self.done}/{self.total}", *self.notes))

    def bar(self, width: int) -> str:
        """Return the steps as a bar of so many characters."""
        filled = width * self.done // max(self.total, 1)
        return "#" * filled + "." * (width - filled)


@dataclass
class _Shown:
    """What is shown at the moment, since when, from which step on, and when it was last said."""

    what: str = ""
    started: float = 0.0
    first: int = 0
    last: float = 0.0


_shown = _Shown()
_sink: Callable[[Step], None] | None = None


def redirect(sink: Callable[[Step], None], terminal: bool) -> None:
    """Hand every step that this process would show to `sink`, as often as a terminal or, else, a file is written to."""
    global _sink
    _sink = sink
    _EVERY[False] = _EVERY[terminal]


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
    terminal, now = _sink is None and sys.stderr.isatty(), time.monotonic()
    ended = done >= total
    if what != _shown.what:
        end()
        _shown.what, _shown.started, _shown.first = what, now, done
    elif not ended and now - _shown.last < _EVERY[terminal]:
        return
    _shown.last = now
    step = Step(what, done, total, (*([note] if note else []), *_left(done, total, now)))
    if _sink is not None:
        _sink(step)
    elif terminal:
        print(f"\r  {what} [{step.bar(30)}] {step.text}\x1b[K", end="", file=sys.stderr, flush=True)
    else:
        logger.info("  %s: %s", what, step.text)
    if ended:
        end()


def end() -> None:
    """Close what is shown: on a terminal what comes next begins a line of its own."""
    if _shown.what and _sink is None and sys.stderr.isatty():
        print(file=sys.stderr, flush=True)
    _shown.what = ""


class Board:
    """How far several pieces of work are that go on side by side: one line on a terminal, lines now and then elsewhere."""

    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}

    def show(self, name: str, step: Step) -> None:
        """Say how far the work of a name is."""
        if not sys.stderr.isatty():
            logger.info("  %s: %s: %s", name, step.what, step.text)
            return
        self._steps[name] = step
        parts = [f"{name} [{each.bar(10)}] {each.text}" for name, each in self._steps.items()]
        line = "  " + " | ".join(parts)
        print(
            f"\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K", end="", file=sys.stderr, flush=True
        )

    def clear(self, name: str = "") -> None:
        """Make room for a line of something else, and forget the work of a name."""
        if self._steps:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        self._steps.pop(name, None)


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


def _left(done: int, total: int, now: float) -> tuple[str, ...]:
    steps, seconds = done - _shown.first, now - _shown.started
    if steps <= 0 or done >= total or seconds < _SURE:
        return ()
    return (f"about {duration(seconds / steps * (total - done))} left",)
