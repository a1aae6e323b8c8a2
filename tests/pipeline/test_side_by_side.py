"""Tasks side by side in processes: the same bytes as with one, and what is left of a run when any of the processes ends."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest
from written_files import differing

from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.pipeline import pipeline, pool, session, worker
from recgen.pipeline.context import RunContext
from recgen.pipeline.side_by_side import SideBySide, waits
from recgen.pipeline.task import Task
from recgen.pipeline.tasks import tasks
from recgen.pipeline.worker import Order
from recgen.planning.schedule import makespan, urgency


@pytest.fixture(scope="module")
def config(tmp_path_factory, write_config) -> Path:
    """A generator and the placebo, which are drawn in three shards each, and some downstream trainings."""
    downstream = {"seeds": 1, "items": 2, "controls": False}
    folder = tmp_path_factory.mktemp("config")
    drawn = {"generators": ["stable_diffusion"], "stable_diffusion": {"decode": {"steps": 2}}}
    controls = ["swapped", "placebo"]
    return write_config(folder, **drawn, controls=controls, downstream=downstream, workers=2)


@pytest.fixture(scope="module")
def serial(tmp_path_factory, config) -> Path:
    """The folder of the run, done in one process."""
    folder = tmp_path_factory.mktemp("serial") / "run"
    pipeline.execute(context(config, folder))
    return folder


def context(config: Path, folder: Path, *overrides: str) -> RunContext:
    return RunContext(load_config(str(config), overrides), folder)


def processes() -> list[psutil.Process]:
    """The processes that this one has started for a run, those of children of its own included."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with suppress(
            psutil.ZombieProcess, psutil.NoSuchProcess
        ):  # what other tests have started may just be ending
            if pool._BOOT in each.cmdline():
                found.append(each)
    return found


def test_two_processes_one_of_them_killed_write_the_same_bytes(serial, config, tmp_path, caplog, monkeypatch):
    killed: list[str] = []
    begin = SideBySide._begin

    def kill_once(self, pool, worker, task, shares):
        begin(self, pool, worker, task, shares)
        if task.name == "generate/stable_diffusion" and not shares and not killed:
            killed.append(task.name)
            worker.process.kill()

    monkeypatch.setattr(SideBySide, "_begin", kill_once)
    with caplog.at_level(logging.INFO):
        order = pipeline.execute(context(config, tmp_path / "run"), workers=2)
    assert not differing(serial, tmp_path / "run")
    listed = [task.name for task in tasks(context(config, tmp_path / "run"))]
    assert sorted(order) == sorted(listed) and order != listed, (
        "some ended before others that are listed first"
    )
    assert (
        killed
        and "generate/stable_diffusion: its process ended by signal 9; it goes on in another" in caplog.text
    )
    assert "  ranker/judge: MICRO: epochs: 1/2" in caplog.text, "what a process says is named after its task"
    assert not processes()
    assert pipeline.execute(context(config, tmp_path / "run"), workers=2) == []


@pytest.mark.slow
def test_the_only_task_that_can_be_done_is_shared_at_once(serial, config, tmp_path, monkeypatch):
    folder, begun, begin = tmp_path / "run", list[tuple[str, bool]](), SideBySide._begin
    shutil.copytree(serial, folder)
    shutil.rmtree(folder / "creatives")

    def note(self, pool, worker, task, shares):
        begun.append((task.name, shares))
        begin(self, pool, worker, task, shares)

    monkeypatch.setattr(SideBySide, "_begin", note)
    pipeline.execute(context(config, folder), goals=["generate"], workers=2)
    assert begun[:2] == [("generate/stable_diffusion", False), ("generate/stable_diffusion", True)]
    assert begun[-1] == ("generate", False), begun


@pytest.mark.slow
def test_killed_itself_it_takes_its_processes_along(serial, config, tmp_path):
    """Killed when the first creatives are there; what is on record then is not done again."""
    folder = tmp_path / "run"
    victim = multiprocessing.get_context("fork").Process(target=_run, args=(config, folder))
    victim.start()
    _wait(lambda: any(folder.glob("creatives/shards/*/*.parquet")))
    assert victim.pid is not None and processes()
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    kept = {path: path.stat().st_mtime_ns for path in (folder / "stages").glob("*.json")}
    session.run(str(config), str(folder), ["recgen.workers=1"])  # at once: it waits for what is still ending
    assert len(kept) > 2 and kept == {path: path.stat().st_mtime_ns for path in kept}
    assert not differing(serial, folder) and not processes()


def _run(config: Path, folder: Path) -> None:
    with open(os.devnull, "w") as file:
        os.dup2(file.fileno(), 2)
        session.run(str(config), str(folder))


def _wait(happened: Callable[[], bool], patience: float = 120) -> None:
    until = time.monotonic() + patience
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_process_that_always_dies_ends_the_run(config, tmp_path, monkeypatch):
    begin = SideBySide._begin

    def kill(self, pool, worker, task, shares):
        begin(self, pool, worker, task, shares)
        worker.process.kill()

    monkeypatch.setattr(SideBySide, "_begin", kill)
    monkeypatch.setattr("recgen.pipeline.side_by_side._TRIES", 1)
    with pytest.raises(UserError, match=r"dataset: found .* signal 9, 1 times.*lower recgen\.workers"):
        pipeline.execute(context(config, tmp_path / "run"), workers=2)
    assert not processes()


def test_a_process_that_cannot_start_ends_the_run(config, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "_BOOT", "import os; os._exit(7)")
    with pytest.raises(
        UserError, match=r"recgen\.workers: found processes that ended by exit code 7 as soon as"
    ):
        pipeline.execute(context(config, tmp_path / "run"), workers=2)


def test_a_process_that_is_killed_as_it_starts_is_replaced(config, tmp_path, monkeypatch):
    start, started = pool.Pool.start, []

    def start_and_kill(self):
        made = start(self)
        started.append(made)
        if len(started) == 1:
            made.process.kill()
        return made

    monkeypatch.setattr(pool.Pool, "start", start_and_kill)
    assert pipeline.execute(context(config, tmp_path / "run"), until="dataset", workers=2)[0] == "dataset"
    assert len(started) > 1


def test_mistakes_are_said_as_in_one_process(config, tmp_path):
    def said(workers: int) -> str:
        run = context(config, tmp_path / "run", "recgen.encoder=/no/such/folder")
        with pytest.raises(UserError) as caught:
            pipeline.execute(run, workers=workers)
        return str(caught.value)

    assert said(2) == said(1)
    assert not processes()


class Local(Exception):
    """An error that cannot be pickled: unpickling calls it without arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (UserError("a.yaml: key", found="1", expected="2"), UserError, "a.yaml: key: found 1; expected 2."),
        (ValueError("a shape"), ValueError, "a shape"),
        (Local(1, 2), RuntimeError, "Local: 1 and 2"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/a/b"),
            UserError,
            "/a/b: found no space left on device; expected a disk with room that can be written to. Make room or give another "
            "folder with --out; the same command goes on where it stopped.",
        ),
    ],
)
def test_errors_come_back_with_their_traceback(monkeypatch, error, kind, text):
    def fail(run: object) -> None:
        raise error

    monkeypatch.setattr(worker, "resolve_name", lambda name: fail)
    failed = worker.obey(Mock(), Order("module:function"))
    returned = pool._error(failed)
    assert type(returned) is kind and str(returned) == text and "in fail" in failed.details


def test_a_process_whose_orders_are_cut_short_ends(config, tmp_path):
    """As when what gives them is killed in the middle of one: it must not wait for ever with the lock of the folder."""
    run = context(config, tmp_path / "run")
    assignment = [pickle.dumps(each) for each in (sys.path, worker.Assignment(run.config, run.folder, False))]
    order = pickle.dumps(Order("module:function", ("x" * 1000,)))
    process = subprocess.Popen([sys.executable, "-P", "-c", pool._BOOT], stdin=subprocess.PIPE, stdout=-3)
    process.communicate(b"".join([*assignment, order[:200]]), timeout=120)
    assert process.returncode == 1


# ---- what waits for what ----


def task(name: str, stage: str, *after: str) -> Task:
    return Task(name, stage, "", {}, after)


@pytest.mark.slow
def test_a_process_with_nothing_to_do_reads_what_the_next_tasks_will_ask_for(config, tmp_path, monkeypatch):
    given, give = list[tuple[str, Order]](), pool.Pool.give

    def note(self, worker, name, order):
        given.append((name, order))
        give(self, worker, name, order)

    monkeypatch.setattr(pool.Pool, "give", note)
    pipeline.execute(context(config, tmp_path / "run"), until="features", workers=2)
    names = [name for name, _ in given]
    read = [order.arguments for _, order in given if order.call == "recgen.pipeline.worker:read_library"]
    assert names[:3] == ["", "dataset", ""], "preflight, the first task, and the other process gets ready"
    assert given[2][1].arguments == ("recgen.features.encoders",) and set(read) == {given[2][1].arguments}


@pytest.mark.slow
def test_a_second_process_that_is_one_too_many_is_ended(config, tmp_path, monkeypatch):
    """As where networks turn out to run on a GPU: it has been started beside the first, which says so."""
    working: list[int] = []
    give = pool.Pool.give
    monkeypatch.setenv("OMP_NUM_THREADS", "7")

    def note(self, worker, name, order):
        working.append(worker.process.pid)
        environment = psutil.Process(worker.process.pid).environ()
        assert environment["GLIBC_TUNABLES"] == pool._HEAP["GLIBC_TUNABLES"]
        assert environment["OMP_NUM_THREADS"] == str(self._run.threads) != "7"
        for _ in range(100 if name else 0):  # the system takes a moment
            time.sleep(0.1 * (len(processes()) > 1))
        assert not name or len(processes()) == 1
        give(self, worker, name, order)

    monkeypatch.setattr(pool.Pool, "limit", lambda self, workers: 1)
    monkeypatch.setattr(pool.Pool, "give", note)
    done = pipeline.execute(context(config, tmp_path / "run"), until="dataset", workers=2)
    assert "dataset/requests" in done and len(set(working)) == 1
    assert not processes()


def test_libraries_are_those_of_the_tasks_that_come_next(tmp_path):
    run = RunContext(load_config("demo"), tmp_path)
    work = tasks(run)
    side = SideBySide(run, work, {}, None)

    def begun(*stages: str) -> set[str]:
        for task in work:
            if task.stage in stages:
                side._left.pop(task.name, None)
        return set(side._next_libraries())

    drawing, encoding = "recgen.diffusion.backbone", "recgen.features.encoders"
    assert begun("dataset") == {encoding}
    assert begun("features") == {"ranking_models.trainer"}
    assert begun("ranker") == {drawing}
    assert begun("generator.fit", "generate") == {encoding}
    assert begun("evaluate") == {"recgen.report"}, "while what comes between reads nothing of its own"
    assert begun("downstream", "report") == set()


def test_a_library_that_cannot_be_read_is_left_to_the_task_that_asks_for_it(config, tmp_path):
    run = context(config, tmp_path / "run")
    assert isinstance(
        worker.obey(run, Order("recgen.pipeline.worker:read_library", ("no.such",))), worker.Done
    )


def test_nothing_is_drawn_before_all_that_any_generator_asks_for_is_there():
    work = [
        task("dataset", "dataset"),
        task("dataset/folder", "dataset", "dataset"),
        task("features", "features", "dataset"),
        task("features/captions", "features", "features"),
        task("ranker/reward", "ranker", "features"),
        task("generator.fit/a", "generator.fit", "features", "ranker/reward"),
        task("market", "market", "generator.fit/a"),
        task("report", "report", "market"),
    ]
    found = waits(work)
    assert set(found["features/captions"]) == {"features"}
    assert set(found["ranker/reward"]) == {"features", "dataset", "dataset/folder"}
    assert "features/captions" in found["generator.fit/a"] and "features/captions" not in work[5].after
    assert len(found["report"]) == len(work) - 1


def test_the_longest_chain_goes_first():
    after = {"a": (), "b": (), "c": ("b",), "d": ("b",)}
    seconds = {"a": 3.0, "b": 1.0, "c": 4.0, "d": 1.0}
    assert urgency(after, seconds) == {"a": 3.0, "b": 5.0, "c": 4.0, "d": 1.0}
    assert makespan(after, seconds, 1) == 9.0 and makespan(after, seconds, 2) == 5.0
    assert makespan(after, seconds, 3) == 5.0 and makespan({}, {}, 2) == 0.0
    assert makespan(after, {**seconds, "a": 8.0}, 2) == 8.0
    free = {"a": (), "b": (), "c": (), "d": (), "e": ()}
    assert makespan(free, dict(zip(free, (5.0, 4.0, 3.0, 2.0, 1.0), strict=True)), 2) == 8.0, (
        "never three at once"
    )
    assert (
        urgency({"a": (), "b": ("a",)}, {}) == {"a": 2.0, "b": 1.0}
        and makespan({"a": (), "b": ("a",)}, {}, 1) == 2.0
    )


# ---- how many processes ----


@pytest.mark.parametrize(
    ("asked", "device", "expected"), [("auto", "cuda", 1), ("auto", "cpu", 4), (4, "cuda", 4), (4, "cpu", 4)]
)
def test_a_gpu_has_one_process_unless_more_are_asked_for(config, tmp_path, asked, device, expected):
    processes = pool.Pool(context(config, tmp_path / "run", f"recgen.workers={asked}"))
    processes.device = device
    assert processes.limit(4) == expected


@pytest.mark.parametrize(
    ("asked", "threads", "cores", "free", "expected"),
    [(3, None, 1, 0.1, 3), ("auto", None, 4, 64.0, 4), ("auto", 2, 4, 64.0, 2), ("auto", 1, 4, 2.5, 2),
     ("auto", 1, 64, 500.0, 8), ("auto", 8, 4, 64.0, 1), ("auto", 1, 4, 0.1, 1)],
)  # fmt: skip
def test_as_many_as_cores_and_memory_allow(
    config, tmp_path, monkeypatch, asked, threads, cores, free, expected
):
    run = context(config, tmp_path / "run", f"recgen.workers={asked}", f"recgen.threads={threads or 'null'}")
    monkeypatch.setattr(pool, "cores", lambda: cores)
    monkeypatch.setattr(pool, "available_memory", lambda: free)
    taken = [
        pool.memory.TaskMemory(name, (pool.memory.Item("all", gib),))
        for name, gib in (("a", 0.2), ("b", 1.0))
    ]
    monkeypatch.setattr(pool.memory, "tasks", lambda *arguments, **named: taken)
    assert pool.workers(run, object()) == expected
