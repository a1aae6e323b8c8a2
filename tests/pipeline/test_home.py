"""Runs at an URL: what one machine finishes another goes on with, on S3 (moto's server) and in a plain folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from command_line import command

import recgen
from recgen.core.errors import UserError
from recgen.core.remote import Remote
from recgen.pipeline import home, lease, session
from recgen.pipeline.workspace import Workspace

TASK, PLACE = "generate/toy", ("creatives/shards/toy", "creatives/images/toy")
CHUNK = ("creatives/images/toy/a.png", "creatives/shards/toy/0.safetensors", "creatives/shards/toy/0.parquet")


@pytest.fixture
def machine(tmp_path, url, monkeypatch) -> Callable[[str], Workspace]:
    """Return what opens the run on a machine of this name: each has its own disk."""

    def go_to(name: str) -> Workspace:
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        return Workspace(home.folder_of(url).resolve())

    return go_to


def write(workspace: Workspace, *names: str, text: str = "") -> list[Path]:
    paths = [workspace.root / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text or path.name)
    return paths


def held(workspace: Workspace) -> set[str]:
    return {
        path.relative_to(workspace.root).as_posix()
        for path in workspace.root.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def finish(workspace: Workspace, fingerprint: str, text: str = "") -> None:
    workspace.begin("ranker/judge", fingerprint, ["ranker/judge"])
    workspace.finish("ranker/judge", fingerprint, write(workspace, "ranker/judge/model.pth", text=text))


def test_what_is_finished_on_one_machine_is_finished_on_another(machine, url):
    first = machine("first")
    with first.lock():
        write(first, "threads.txt", text="3")
        finish(first, "one")
    Remote(url).create("ranker/.tmp-1-model.pth", b"half-written")
    other = machine("other")
    assert other.root != first.root and not held(other)
    with other.lock():
        assert other.finished("ranker/judge", "one") and held(other) == held(first)
        assert other.damaged("ranker/judge") == []
        facts = other.root / "ranker/judge/model.pth"
        assert facts.stat().st_mtime_ns == (first.root / "ranker/judge/model.pth").stat().st_mtime_ns
    assert Remote(url).sizes().keys() == {*held(first), ".writer"}, (
        "no lease is left, and nothing half-written counts"
    )


def test_chunks_of_a_task_that_was_killed_are_there_and_count_by_their_tables(machine):
    first = machine("first")
    with first.lock():
        first.begin(TASK, "one", PLACE)
        first.publish(write(first, *CHUNK))
        write(first, "creatives/images/toy/b.png")  # of a chunk that is not finished
    other = machine("other")
    with other.lock():
        assert other.begin(TASK, "one", PLACE) == []
        assert held(other) == {*CHUNK, "stages/generate.toy.started"}
        other.begin(TASK, "two", PLACE)
        assert held(other) == {"stages/generate.toy.started"}
    with machine("third").lock():
        assert held(machine("third")) == {"stages/generate.toy.started"}, "nor are they at the URL"


def test_a_chunk_is_not_taken_twice_and_one_that_was_not_is_taken_in_the_end(machine, url, monkeypatch):
    first, put, taken = machine("first"), Remote.put, list[str]()
    monkeypatch.setattr(
        Remote, "put", lambda self, root, names: (taken.extend(names), put(self, root, names))
    )
    with first.lock():
        first.begin(TASK, "one", PLACE)
        first.publish(write(first, *CHUNK))
        late = write(first, "creatives/images/toy/late.png")
        first.finish(TASK, "one", [*(first.root / name for name in CHUNK), *late])
    assert sorted(taken) == sorted([*CHUNK[:2], "creatives/images/toy/late.png"])


def test_what_a_kill_kept_from_the_url_is_taken_by_the_next_start(machine, url, monkeypatch):
    first = machine("first")
    with pytest.raises(KeyboardInterrupt), first.lock():
        first.begin(TASK, "one", PLACE)
        write(first, *CHUNK)
        monkeypatch.setattr(home.Home, "publish", _interrupted)
        finish(first, "one")
    monkeypatch.undo()
    assert not Remote(url).sizes("ranker") and not Remote(url).sizes("creatives")
    first = machine("first")
    with first.lock():
        pass
    assert Remote(url).sizes().keys() >= {*CHUNK, "ranker/judge/model.pth", "stages/ranker.judge.json"}


def _interrupted(self, names, last):
    if last.endswith("judge.json") or "judge" not in last:
        raise KeyboardInterrupt


def test_a_folder_that_is_behind_is_brought_in_line(machine):
    first, other = machine("first"), machine("other")
    with first.lock():
        finish(first, "one", "old")
        first.begin(TASK, "one", PLACE)
        write(first, *CHUNK)  # which never gets to the URL
    with other.lock():
        finish(other, "two", "new")
    first = machine("first")
    with first.lock():
        assert first.finished("ranker/judge", "two") and not first.finished("ranker/judge", "one")
        assert (first.root / "ranker/judge/model.pth").read_text() == "new"
        assert not held(first) & {*CHUNK}, "the other machine is not as far"


def test_a_folder_that_has_lost_files_gets_them_back(machine):
    first = machine("first")
    with first.lock():
        finish(first, "one")
    (first.root / "ranker/judge/model.pth").unlink()
    with first.lock():
        assert first.finished("ranker/judge", "one")


def test_what_a_task_owns_beside_its_outputs_goes_along(machine):
    first = machine("first")
    with first.lock():
        first.begin("dataset", "one", ["dataset", "simulated"])
        outputs = write(first, "dataset/items.parquet")
        write(first, "dataset/images/0.png", "simulated/log.inter")
        first.finish("dataset", "one", outputs, owned=["dataset", "simulated", "never/made"])
    other = machine("other")
    with other.lock():
        assert held(other) == held(first)


def test_what_is_damaged_at_the_url_is_not_taken_for_finished(machine, url):
    first = machine("first")
    with first.lock():
        finish(first, "one", "weights")
    Remote(url).commit("ranker/judge/model.pth", b"damaged")
    other = machine("other")
    with other.lock():
        assert not other.finished("ranker/judge", "one")
        assert other.begin("ranker/judge", "one", ["ranker/judge"]) == ["ranker/judge/model.pth"]


def test_two_machines_do_not_write_at_once(machine, impatient):
    first, other = machine("first"), machine("other")
    with (
        first.lock(),
        pytest.raises(UserError, match=rf"process {os.getpid()} on .* at work"),
        other.lock(),
    ):
        pass
    with other.lock():
        finish(other, "one")


def test_the_place_of_a_silent_machine_is_taken_and_it_finds_out(machine, impatient, monkeypatch):
    first, other = machine("first"), machine("other")
    monkeypatch.setattr(lease, "RENEWED", 1000.0)  # as if suspended
    with first.lock():
        with other.lock():
            finish(other, "one")
            with pytest.raises(UserError, match="at work on it"):
                first.begin("ranker/judge", "two", ["ranker/judge"])
            with pytest.raises(UserError, match="at work on it"):
                first.publish(write(first, *CHUNK))
        assert other.finished("ranker/judge", "one")


def test_one_machine_need_not_wait_for_the_process_it_has_lost(machine, url):
    first = machine("first")
    Remote(url).commit(lease.NAME, json.dumps({"writer": first.home._writer}).encode())
    started = time.monotonic()
    with first.lock():
        pass
    assert time.monotonic() - started < lease.PATIENCE / 5


def test_answers_that_were_paid_for_go_along(machine, url, tmp_path):
    first = machine("first")
    with first.lock(), closing(sqlite3.connect(first.root / "answers.sqlite")) as file:
        file.execute("PRAGMA journal_mode=WAL")
        with file:
            file.execute("CREATE TABLE answers (answer)")
            file.execute("INSERT INTO answers VALUES ('forty-two')")
        finish(first, "one")
        taken = tmp_path / "taken.sqlite"  # while the file is open, and a part of it in its journal
        taken.write_bytes(Remote(url).read("answers.sqlite") or b"")
    other = machine("other")
    with other.lock():
        for place in (taken, other.root / "answers.sqlite"):
            with closing(sqlite3.connect(place)) as file:
                assert file.execute("SELECT answer FROM answers").fetchone() == ("forty-two",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run --config demo --out gopher://x/y", "Protocol not known"),
        ("run --config demo --out s3://bucket/[x]", "expected an URL without patterns"),
        ("show --run {url}", "no config.yaml there"),
        ("generate --config demo --part 1/2 --out {url}", "found no finished task in it"),
        ("clean --run {url}", "no config.yaml there"),
        ("export --run runs/x --name y --to {url}", "export into one, and copy that to the URL"),
        ("requests --config demo --to {url}", "Write the tables into a folder, and copy that"),
        ("tune --config demo --trials 1 --out {url}", "--config .../best.yaml --out URL"),
        ("report --run runs/x --out {url}", "Write it to a path of this machine's"),
    ],
)
def test_what_cannot_be_at_an_url_is_refused(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, *words.format(url=f"file://{tmp_path}/far").split()) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "far").exists()
    assert (
        words.startswith("generate")
        or not (tmp_path / "runs").exists()
        or not any((tmp_path / "runs").iterdir())
    ), "a mistyped URL leaves nothing behind"


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "pack"), [(1, False), (2, False), (1, True)])
def test_a_run_on_s3_that_is_killed_is_gone_on_with_elsewhere(
    workers, pack, bucket, write_config, tmp_path, monkeypatch, impatient
):
    """Killed in the middle of drawing; its disk is gone; the other machine draws what is missing alone."""
    config = write_config(tmp_path, generators=["toy"], shard_size=1, workers=workers, pack=pack)
    session.run(str(config), str(tmp_path / "local"), until="evaluate")
    url = f"{bucket}/killed-{workers}-{pack}/run"
    _kill_while_it_draws(config, url, tmp_path / "first")
    tables = _tables(url)
    assert 0 < len(tables) < 12
    shutil.rmtree(tmp_path / "first")
    (tmp_path / "second").mkdir()
    monkeypatch.chdir(tmp_path / "second")
    before = {name: _changed(url, name) for name in tables}
    folder = session.run(str(config), url, until="evaluate")
    assert _results(folder) == _results(tmp_path / "local")
    assert before == {name: _changed(url, name) for name in tables}, "drawn once"
    (tmp_path / "third").mkdir()
    monkeypatch.chdir(tmp_path / "third")
    opened = recgen.open(url)
    assert bool(list(opened.folder.rglob("*.tar"))) == pack
    assert opened.folder.is_relative_to("runs") and _results(opened.folder) == _results(tmp_path / "local")
    assert command(monkeypatch, "verify", "--run", url) == 0
    assert command(monkeypatch, "show", "--run", url) == 0


def _kill_while_it_draws(config: Path, url: str, folder: Path) -> None:
    folder.mkdir()
    program = f"from recgen.pipeline import session; session.run({str(config)!r}, {url!r})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    victim = subprocess.Popen(
        [sys.executable, "-c", program], cwd=folder, env=environment, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 300
    while not _tables(url) and time.monotonic() < until:
        assert victim.poll() is None, "it is at work"
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL


def _tables(url: str) -> list[str]:
    return [name for name in Remote(url).sizes("creatives/shards") if name.endswith(".parquet")]


def _changed(url: str, name: str) -> object:
    return Remote(url)._files.info(f"{url}/{name}")["LastModified"]


def _results(folder: Path) -> tuple[list[str], object]:
    metrics = json.loads((folder / "metrics.json").read_text())
    return pd.read_parquet(folder / "creatives/manifest.parquet")["sha256"].tolist(), metrics
