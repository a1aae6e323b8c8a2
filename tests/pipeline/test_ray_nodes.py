"""The engine `ray` on two nodes, which `ray start` makes of this machine: one of them is killed, or an actor's process."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from written_files import differing

from recgen.config.loader import load_config
from recgen.pipeline import pipeline, session
from recgen.pipeline.context import RunContext
from recgen.pipeline.side_by_side import SideBySide

ray = pytest.importorskip("ray", reason="Ray is not installed")

pytestmark = pytest.mark.slow

DRAWN = {"generators": ["toy"], "controls": ["swapped"], "shard_size": 1, "toy": {"pause": 0.2}}
"""An image takes long enough for the other node to come in."""


@pytest.fixture(scope="module")
def config(tmp_path_factory, write_config) -> Path:
    """A generator and a control, a creative a chunk."""
    return write_config(tmp_path_factory.mktemp("config"), **DRAWN, workers=2)


@pytest.fixture(scope="module")
def serial(tmp_path_factory, config) -> Path:
    """The folder of the run up to its measurement, done in this process."""
    folder = tmp_path_factory.mktemp("serial") / "run"
    pipeline.execute(RunContext(load_config(str(config)), folder), until="evaluate")
    return folder


@contextmanager
def _node(place: str, *options: str) -> Iterator[psutil.Process]:
    """Start a node with one core and yield the process that its raylet is a child of."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "RAY_TMPDIR": place,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }
    started = subprocess.Popen(
        [*command, "--object-store-memory=80000000", *options],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    node = psutil.Process(started.pid)
    try:
        yield node
    finally:
        _kill(node)
        started.wait()


def _kill(node: psutil.Process) -> None:
    """Kill a node's processes, the raylet and its workers among them, as losing the machine would: all at once."""
    if not node.is_running():
        return
    processes = [node, *node.children(recursive=True)]
    for process in processes:
        if process.is_running():
            process.kill()
    psutil.wait_procs(processes, 10)


@pytest.fixture
def nodes() -> Iterator[tuple[str, psutil.Process]]:
    """The address of a cluster, and the node of the two that is not its head."""
    places = [tempfile.mkdtemp(prefix="ray") for _ in range(2)]  # short: sockets lie in them
    port, clients = _free_ports(2)
    with ExitStack() as stack:
        for place in places:
            stack.callback(shutil.rmtree, place, True)
        head = (
            "--head",
            f"--port={port}",
            "--include-dashboard=false",
            f"--ray-client-server-port={clients}",
        )
        stack.enter_context(_node(places[0], *head, "--node-ip-address=127.0.0.1"))
        _wait(lambda: _reachable(port), "the head listens")
        # An address of its own: of two nodes at one address the driver may take either for its own, and would end with it.
        other = (f"--address=127.0.0.1:{port}", "--node-ip-address=127.0.0.2")
        node = stack.enter_context(_node(places[1], *other))
        _wait(lambda: _named(node, "raylet"), "the other node has a raylet")
        yield f"127.0.0.1:{port}", node


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _reachable(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _named(node: psutil.Process, name: str) -> list[psutil.Process]:
    return [each for each in node.children(recursive=True) if each.name().startswith(name)]


def _wait(condition, what: str) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


@pytest.fixture
def ray_run(config, tmp_path, nodes, monkeypatch, caplog):
    """Return a function that runs on both nodes and does something when both are at work on creatives."""
    address, node = nodes

    def run(strike) -> Path:
        folder, begin = tmp_path / "run", SideBySide._begin
        struck, left = list[str](), list[int]()

        def strike_once(self, pool, worker, task, shares):
            begin(self, pool, worker, task, shares)
            if task.stage == "generate" and shares and not struck:
                struck.append(task.name)
                _wait(lambda: list(folder.glob("creatives/shards/*/*.parquet")), "a chunk is drawn")
                assert len(ray.nodes()) == 2
                left.append(12 - len(list(folder.glob("creatives/shards/toy/*.parquet"))))
                strike(node)

        monkeypatch.setattr(SideBySide, "_begin", strike_once)
        engine = f'recgen.engine={{"name": "ray", "address": "{address}"}}'
        with caplog.at_level(logging.INFO):
            session.run(str(config), str(folder), [engine], until="evaluate")
        assert struck and left[0] > 0, "in the middle"
        return folder

    return run


def test_a_node_that_is_killed_costs_the_chunks_it_was_at(ray_run, serial):
    def strike(node):
        assert _named(node, "ray::Actor"), "one of the two actors is on it"
        _kill(node)

    assert not differing(serial, ray_run(strike))


def test_an_actor_whose_process_is_killed_goes_on_in_another(ray_run, serial):
    def strike(node):
        (process,) = _named(node, "ray::Actor")
        os.kill(process.pid, signal.SIGKILL)

    assert not differing(serial, ray_run(strike))
