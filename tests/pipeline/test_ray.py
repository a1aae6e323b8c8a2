"""The engine `ray`: actors write the same bytes, whichever of them or their driver is killed."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
from written_files import differing

from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.pipeline import pipeline, session
from recgen.pipeline.context import RunContext
from recgen.pipeline.ray_pool import Actor
from recgen.pipeline.side_by_side import SideBySide
from recgen.pipeline.worker import Assignment, Ready

ray = pytest.importorskip("ray", reason="Ray is not installed")

DRAWN = {"generators": ["toy"], "controls": ["swapped"], "shard_size": 2}


@pytest.fixture(scope="module")
def config(tmp_path_factory, write_config) -> Path:
    """A generator and a control, in chunks of two."""
    return write_config(tmp_path_factory.mktemp("config"), **DRAWN, workers=2)


@pytest.fixture(scope="module")
def serial(tmp_path_factory, config) -> Path:
    """The folder of the run up to its measurement, done in this process."""
    folder = tmp_path_factory.mktemp("serial") / "run"
    pipeline.execute(context(config, folder), until="evaluate")
    return folder


def context(config: Path, folder: Path, *overrides: str) -> RunContext:
    return RunContext(load_config(str(config), overrides), folder)


@pytest.mark.slow
def test_what_a_killed_driver_has_begun_is_gone_on_with(serial, config, tmp_path):
    """It and its actors end together; whoever comes next waits for them, and draws what is missing."""
    folder = _without_creatives(serial, tmp_path / "run")
    victim = multiprocessing.get_context("fork").Process(target=_drive, args=(config, folder))
    victim.start()
    until = time.monotonic() + 200
    while (
        not list(folder.glob("creatives/shards/*/*.parquet"))
        and victim.is_alive()
        and time.monotonic() < until
    ):
        time.sleep(0.02)
    assert victim.pid is not None and victim.is_alive(), "it is at work"
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    session.run(str(config), str(folder), ["recgen.workers=1"], until="evaluate")
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("creatives/shards/*/*")}
    assert not differing(serial, folder)
    time.sleep(0.5)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}, "nobody writes any more"
    assert not [each for each in psutil.process_iter(["name"]) if each.info["name"] == "ray::Actor.obey"]


def _without_creatives(run: Path, folder: Path) -> Path:
    """Return a copy of a run that has yet to draw."""
    shutil.copytree(run, folder)
    for record in (folder / "stages").glob("*.json"):
        if record.name.startswith(("generate", "evaluate")):
            record.unlink()
    for place in ("creatives", "evaluation"):
        shutil.rmtree(folder / place)
    return folder


def _drive(config: Path, folder: Path) -> None:
    with open(os.devnull, "w") as file:
        os.dup2(file.fileno(), 2)
        slow = ["recgen.engine=ray", "recgen.workers=1"]
        session.run(str(config), str(folder), slow, until="generate")
        time.sleep(600)


@pytest.mark.slow
def test_actors_write_the_same_bytes_also_when_one_is_killed(serial, config, tmp_path, caplog, monkeypatch):
    killed, begin = [], SideBySide._begin

    def kill_once(self, pool, worker, task, shares):
        begin(self, pool, worker, task, shares)
        if task.name == "generate/toy" and not shares and not killed:
            killed.append(task.name)
            ray.kill(worker.process)

    monkeypatch.setattr(SideBySide, "_begin", kill_once)
    with caplog.at_level(logging.INFO):
        session.run(str(config), str(tmp_path / "run"), ["recgen.engine=ray"], until="evaluate")
    assert not differing(serial, tmp_path / "run")
    assert killed and "generate/toy: its process ended by what Ray calls" in caplog.text
    assert "  ranker/judge: MICRO: epochs: 1/2" in caplog.text, "what an actor says is named after its task"
    assert not ray.is_initialized()


def test_an_actor_keeps_the_gpu_that_ray_gives_it(config, tmp_path, in_child, monkeypatch):
    """RecBole's Config overwrites CUDA_VISIBLE_DEVICES with gpu_id, 0 by default."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert in_child(_visible, config, tmp_path) == 33


def _visible(config: Path, folder: Path) -> None:
    loaded = load_config(str(config), ["use_gpu=true"])
    actor = Actor(Assignment(loaded, folder, False))
    assert isinstance(actor.heard()[-1], Ready)
    actor._run.recbole_config("BPR")
    os._exit(30 + int(os.environ["CUDA_VISIBLE_DEVICES"]))


def test_a_cluster_that_is_not_there_is_named(config, tmp_path):
    with pytest.raises(UserError, match=r"recgen.engine.address: found ConnectionError"):
        pipeline.execute(context(config, tmp_path, 'recgen.engine={"address": "auto"}'))
    with pytest.raises(UserError, match="engine.address with workers: auto"):
        context(config, tmp_path, 'recgen.engine={"address": "auto"}', "recgen.workers=auto")
