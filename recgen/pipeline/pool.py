"""Processes that do tasks of a run side by side, see `recgen.pipeline.worker`; and how many of them there should be."""

from __future__ import annotations

import logging
import os
import pickle
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from recgen.core.machine import available_memory, cores
from recgen.core.progress import Board, Step
from recgen.pipeline.context import RunContext
from recgen.pipeline.worker import Assignment, Done, Failed, Order, Ready
from recgen.planning import memory
from recgen.planning.sizes import Sizes

logger = logging.getLogger("recgen")

_BOOT = (  # its modules are found where this process finds them
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from recgen.pipeline.worker import main; main()"
)
_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_HEAP = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""The C library asks Linux for huge pages: networks free and take megabytes with every layer, and each 4 KiB of them costs a page
fault. Drawing took 6% less with them; where there are none this says nothing."""
_AT_MOST = 8
"""Workers that `auto` starts: a run has seldom more to do side by side, and each takes seconds to start."""


def workers(run: RunContext, sizes: Sizes | None) -> int:
    """Return how many processes a run's tasks are to be done in, by `recgen.workers`.

    `auto` is a process for each `recgen.threads` cores, as far as the free memory goes: each has weights and data of its own.
    `sizes` are those of the data, None where they are not known.
    """
    asked, threads = run.settings.workers, run.settings.threads or 1
    if asked != "auto":
        return asked
    found = min(cores() // threads, _AT_MOST)
    free = available_memory()
    if sizes is not None and free is not None:
        each = memory.largest(memory.tasks(run.config, sizes, on_gpu=False)).gib
        found = min(found, int(free / each))
    return max(found, 1)


class Lost(Exception):
    """A process ended in the middle of a call; the argument says how."""


@dataclass(eq=False)
class Worker:
    """One process (`subprocess.Popen`, or a Ray actor): the order it is at, the name this is shown by, whether it has begun."""

    process: Any
    name: str = ""
    order: Order | None = None
    ready: bool = False


class Pool:
    """Processes at work for a run; each takes one order at a time.

    Parameters
    ----------
    run
        The run, whose folder is locked.
    """

    def __init__(self, run: RunContext) -> None:
        self._run, self.workers, self.device = run, list[Worker](), ""
        self._answers: queue.SimpleQueue[tuple[Worker, Any]] = queue.SimpleQueue()
        self._board = Board()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes at once: what has been finished is on record, and the rest goes on where it stopped."""
        self._board.clear()
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.wait()
            with suppress(BrokenPipeError):
                worker.process.stdin.close()

    def start(self) -> Worker:
        """Start one more process."""
        run = self._run
        held = run.workspace.held
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**_HEAP, **os.environ, **dict.fromkeys(_POOLS, str(run.threads))},
            pass_fds=() if held is None else (held,),
        )
        worker = Worker(process)
        self.workers.append(worker)
        self._send(worker, sys.path)
        self._send(worker, Assignment(run.config, run.folder, sys.stderr.isatty()))
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        return worker

    def end(self, worker: Worker) -> None:
        """End a process that is at nothing."""
        self.workers.remove(worker)
        worker.process.kill()

    def has_room(self) -> bool:
        """Return whether one more can be started now."""
        return True

    def limit(self, workers: int) -> int:
        """Return how many processes there may be of so many, now that it is known where they run networks."""
        return 1 if self._run.settings.workers == "auto" and self.device != "cpu" else workers

    @property
    def idle(self) -> list[Worker]:
        """The processes that are at nothing."""
        return [worker for worker in self.workers if worker.order is None]

    def give(self, worker: Worker, name: str, order: Order) -> None:
        """Have an idle process make a call, whose progress is shown under `name`."""
        worker.name, worker.order = name, order
        self._send(worker, order)

    def clear(self) -> None:
        """Make room on a terminal for a line of this process's own."""
        self._board.clear()

    def result(self) -> tuple[Worker, Done | Lost]:
        """Wait for the next call to end; return the process, which is idle again or gone, and what came of the call.

        Raises
        ------
        Exception
            What the call has raised, with the process's traceback as its cause.
        """
        while True:
            worker, message = self._answers.get()
            if isinstance(message, Ready):
                self.device, worker.ready = message.device, True
            elif isinstance(message, Step):
                self._board.show(worker.name, message)
            elif isinstance(message, logging.LogRecord):
                self._log(worker, message)
            else:
                self._board.clear(worker.name)
                if isinstance(message, Failed):
                    error = _error(message)
                    error.add_note(f"in {worker.name}")
                    raise error from _Traceback(message.details)
                if isinstance(message, Lost) and worker in self.workers:
                    self.workers.remove(worker)
                worker.order = None
                return worker, message

    def _log(self, worker: Worker, record: logging.LogRecord) -> None:
        """Log what a process has to say, with the name of what it is at."""
        self._board.clear()
        if record.name == logger.name and worker.name:
            record.msg = record.message = f"  {worker.name}: {record.getMessage().strip()}"
        heard = logging.getLogger(record.name)
        if heard.isEnabledFor(record.levelno):
            heard.handle(record)

    @staticmethod
    def _send(worker: Worker, message: Any) -> None:
        with suppress(BrokenPipeError):  # it has ended, which is found where its answers are read
            pickle.dump(message, worker.process.stdin)
            worker.process.stdin.flush()

    def _listen(self, worker: Worker) -> None:
        """Take one process's answers, until it ends."""
        while True:
            try:
                self._answers.put((worker, pickle.load(worker.process.stdout)))
            except Exception:  # cut short anywhere
                break
        code = worker.process.wait()
        self._answers.put((worker, Lost(f"signal {-code}" if code < 0 else f"exit code {code}")))


class _Traceback(Exception):
    """Another process's traceback, as a cause."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def _error(failed: Failed) -> Exception:
    try:
        return pickle.loads(failed.pickled)
    except Exception:  # of a class that cannot be made again here
        return RuntimeError(failed.brief)
