"""Ray actors in the place of processes: the same orders and answers as those of `recgen.pipeline.worker`, on one machine or many.

An actor holds one run with its data and weights, which it reads from the run's folder: what is sent to it is a configuration
and a path. It works with the GPU that Ray gives it, whatever RecBole's `gpu_id` says.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

from recgen.config.engine import RayEngine
from recgen.core import progress
from recgen.core.errors import UserError, brief
from recgen.core.machine import try_lock
from recgen.pipeline.context import RunContext
from recgen.pipeline.pool import Lost, Pool, Worker
from recgen.pipeline.worker import Assignment, Order, Ready, log_to, obey
from recgen.pipeline.workspace import ACTORS

_PATIENCE = 180.0
"""Seconds after which an actor for which there is no place in the cluster is given up."""
_STORE = 80 * 2**20
"""Bytes of a local cluster's object store: what is sent is small, results go through the run's folder."""


class Actor:
    """A run at work in an actor; two threads, so that what it says is heard while it works."""

    def __init__(self, assignment: Assignment) -> None:
        self._said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        config = assignment.config
        if "CUDA_VISIBLE_DEVICES" in os.environ:  # which RecBole's Config overwrites with gpu_id
            config = replace(config, recbole={**config.recbole, "gpu_id": os.environ["CUDA_VISIBLE_DEVICES"]})
        log_to(self._said.put)
        progress.redirect(self._said.put, assignment.terminal)
        self._held = ExitStack()
        self._held.enter_context(try_lock(assignment.folder / ACTORS, shared=True))
        self._run = RunContext(config, assignment.folder)
        self._run.prepare_torch()
        self._said.put(Ready(self._run.models.device))

    def obey(self, order: Order) -> None:
        """Make a call; what comes of it is said as everything else is."""
        self._said.put(obey(self._run, order))

    def heard(self) -> list[Any]:
        """Return what there is to say, after a second at most."""
        with suppress(queue.Empty):
            found = [self._said.get(timeout=1.0)]
            while not self._said.empty():
                found.append(self._said.get())
            return found
        return []


class RayPool(Pool):
    """Actors at work for a run; see `Pool`.

    Parameters
    ----------
    run
        The run, whose folder is locked, and on a disk that all nodes see.
    engine
        Which cluster, and how many GPUs an actor takes.
    workers
        How many actors there may be: a cluster that is started for the run has as many places.
    """

    def __init__(self, run: RunContext, engine: RayEngine, workers: int) -> None:
        super().__init__(run)
        self._engine, self._places, self._stack = engine, workers, ExitStack()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> RayPool:
        self._ray = _installed()
        self._stack.enter_context(self._cluster())
        gpus = self._engine.gpus
        if gpus is None:
            has_gpus = self._ray.cluster_resources().get("GPU", 0) >= 1
            gpus = 1.0 if has_gpus and self._run.config.recbole.get("use_gpu", True) else 0.0
        self._needs = {"CPU": float(self._run.threads), "GPU": gpus}
        options = {"num_cpus": self._run.threads, "num_gpus": gpus, "max_concurrency": 2}
        self._kind = self._ray.remote(**options)(Actor)
        return self

    @contextmanager
    def _cluster(self) -> Iterator[None]:
        """Connect to the cluster that the configuration names, to the one this process is in, or to one started for the run."""
        ray = self._ray
        if ray.is_initialized():
            yield
            return
        quiet = {"include_dashboard": False} if self._engine.address is None else {}
        local = {
            "address": "local",
            "num_cpus": self._places * self._run.threads,
            "object_store_memory": _STORE,
            **quiet,
        }
        given = local if self._engine.address is None else {"address": self._engine.address}
        with _environment(
            PYTHONPATH=os.pathsep.join(filter(None, sys.path)),
            RAY_USAGE_STATS_ENABLED="0",
            RAY_worker_niceness="0",  # 15 by default, which starves them beside anything else
        ):
            try:
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **given)
            except (ConnectionError, ValueError) as error:
                raise UserError(
                    "recgen.engine.address", found=brief(error), expected="a Ray cluster that can be reached"
                ) from error
        try:
            yield
        finally:
            ray.shutdown()

    def __exit__(self, *_: object) -> None:
        self._board.clear()
        for worker in self.workers:
            with suppress(Exception):  # gone already
                self._ray.kill(worker.process)
        for thread in self._threads:
            thread.join(10)
        self._stack.close()

    def start(self) -> Worker:
        """Start one more actor, which may have to wait for its place in the cluster."""
        run = self._run
        actor = self._kind.remote(Assignment(run.config, run.folder.resolve(), sys.stderr.isatty()))
        worker = Worker(actor)
        self.workers.append(worker)
        thread = threading.Thread(target=self._listen, args=(worker,), daemon=True)
        thread.start()
        self._threads.append(thread)
        return worker

    def has_room(self) -> bool:
        """Return whether the cluster has a place for one more actor, as far as it knows."""
        free = self._ray.available_resources()
        return not self.workers or all(free.get(name, 0) >= need for name, need in self._needs.items())

    def limit(self, workers: int) -> int:
        """Return how many actors there may be: each has a GPU of its own, or cores."""
        return workers

    @staticmethod
    def _send(worker: Worker, message: Any) -> None:
        worker.process.obey.remote(message)

    def _listen(self, worker: Worker) -> None:
        """Take one actor's answers, until it ends."""
        patience: float | None = _PATIENCE
        while True:
            try:
                said = self._ray.get(worker.process.heard.remote(), timeout=patience)
            except Exception as error:
                with suppress(Exception):
                    self._ray.kill(worker.process)
                self._answers.put((worker, Lost(f"what Ray calls {brief(error)}")))
                return
            patience = None
            for message in said:
                self._answers.put((worker, message))


def _installed() -> Any:
    """Return the module ray.

    Raises
    ------
    UserError
        If it is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UserError(
            "recgen.engine: ray", found="no ray", expected="it installed", todo="pip install 'ray==2.6.3'"
        ) from error
    return ray


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables in the block, for the processes that are started in it."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
