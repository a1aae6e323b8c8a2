"""A process that does tasks of a run for another one, which alone decides what is done next and keeps the records.

It takes orders on its standard input and answers on what was its standard output, pickled objects both. It ends at once when
the other process does, and until then holds the lock of the run's folder with it.
"""

from __future__ import annotations

import gc
import logging
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from logging.handlers import QueueHandler
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, BinaryIO

from recgen.config.loader import Config
from recgen.core import progress
from recgen.core.errors import of_machine
from recgen.core.usage import Usage
from recgen.pipeline.context import RunContext

_OBJECTS = 50_000
"""Objects made between searches for garbage: with Python's own 700 these take a fifth of the time of reading the libraries."""


@dataclass(frozen=True)
class Assignment:
    """What a worker is of: the run, and whether the other process writes to a terminal.

    Of a worker on the same machine, whose processes share copies of data at URLs, the other process sees to them.
    """

    config: Config
    folder: Path
    terminal: bool


@dataclass(frozen=True)
class Order:
    """A call to make.

    Attributes
    ----------
    call
        "module:function", which is called with the run and `arguments`.
    kept
        The models that may stay loaded; see `Models.release`.
    anew
        Whether what was read from the run's folder so far may have changed.
    """

    call: str
    arguments: tuple[Any, ...] = ()
    kept: frozenset[str] = frozenset()
    anew: bool = False


@dataclass(frozen=True)
class Ready:
    """Said once: where this process would run networks."""

    device: str


@dataclass(frozen=True)
class Done:
    """A call has returned `value`; `used` is what `recgen.core.usage.Usage` says that it took."""

    value: Any
    used: dict[str, float]


@dataclass(frozen=True)
class Failed:
    """A call has raised an error: as it is pickled, in one line, and with its traceback."""

    pickled: bytes
    brief: str
    details: str


class _Answers:
    """The way to the other process, for several threads."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._lock = file, threading.Lock()

    def send(self, message: Any) -> None:
        """Send a message; where it cannot be pickled nothing is sent."""
        data = pickle.dumps(message)
        with self._lock:
            self._file.write(data)
            self._file.flush()


class _LogHandler(QueueHandler):
    """Sends log records to the other process, as text."""

    queue: Any  # takes a record

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue(record)


def log_to(send: Callable[[Any], None]) -> None:
    """Send everything that is logged in this process, warnings too."""
    logging.getLogger().addHandler(_LogHandler(send))  # type: ignore[arg-type]
    logging.getLogger().setLevel(logging.INFO)
    logging.captureWarnings(True)


def main() -> None:
    """Do what the other process orders until it ends."""
    gc.set_threshold(_OBJECTS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the other process decides
    answers = _Answers(os.fdopen(os.dup(sys.stdout.fileno()), "wb"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # so that what a library prints is no answer
    orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
    assignment: Assignment = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    log_to(answers.send)
    progress.redirect(answers.send, assignment.terminal)
    run = RunContext(assignment.config, assignment.folder, at_hand=True)
    run.prepare_torch()
    answers.send(Ready(run.models.device))
    while True:
        answers.send(obey(run, orders.get()))


def _listen(orders: queue.SimpleQueue[Any]) -> None:
    """Take orders; end this process, whatever it is at, when there will be no more."""
    while True:
        try:
            orders.put(pickle.load(sys.stdin.buffer))
        except Exception:  # cut short anywhere
            os._exit(1)


def obey(run: RunContext, order: Order) -> Done | Failed:
    """Make a call, and return what came of it."""
    usage = Usage()
    progress.end()
    try:
        run.models.release(*order.kept)
        if order.anew:
            run.clear_cache()
        run.prepare_torch()
        value = resolve_name(order.call)(run, *order.arguments)
        return Done(value, usage.report())
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        # pickled, an error loses its causes, by which a full disk is known
        return Failed(_pickled(of_machine(error) or error), said, traceback.format_exc())


def read_library(run: RunContext, module: str) -> None:
    """Import a module that tasks to come import themselves; what is wrong with it is theirs to say."""
    with suppress(Exception):
        import_module(module)


def _pickled(error: Exception) -> bytes:
    """Return a pickled error, or one that says the same where it cannot be pickled."""
    try:
        return pickle.dumps(error)
    except Exception:
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
