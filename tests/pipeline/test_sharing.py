"""Work that runs take over from each other."""

from __future__ import annotations

import time

import pytest

from recgen.core.io import write_bytes, write_json
from recgen.pipeline.cache import ArtifactCache, file_lock
from recgen.pipeline.workspace import Workspace


@pytest.fixture
def done(tmp_path):
    """A run that has finished the task a/b with fingerprint f: an output on record and an image in a folder that it owns."""
    one = Workspace(tmp_path / "one")
    one.begin("a/b", "f", ["images"])
    write_json(one.root / "out.json", [1])
    write_bytes(one.root / "images/1/x.png", b"x")
    (one.root / "images/.tmp-y.png").write_bytes(b"half")
    one.finish("a/b", "f", [one.root / "out.json"])
    return one


def test_a_finished_task_is_taken_over_with_all_that_it_owns(done, tmp_path):
    """By hard links: no byte is on the disk twice; half-written files stay behind."""
    two = Workspace(tmp_path / "two")
    cache = ArtifactCache(tmp_path)
    assert cache.has(two, "a/b", "f") and not two.finished("a/b", "f"), "to ask changes nothing"
    assert cache.take(two, "a/b", "f", ["images"]) == "one"
    assert two.finished("a/b", "f")
    for name in ("out.json", "images/1/x.png"):
        assert (two.root / name).samefile(done.root / name)
    assert not (two.root / "images/.tmp-y.png").exists()
    write_json(two.root / "out.json", [2])
    assert "1" in (done.root / "out.json").read_text()
    assert "2" not in (done.root / "out.json").read_text()


def test_what_differs_or_has_lost_its_files_is_not_taken_over(done, tmp_path):
    """Another fingerprint, another task, a run whose files were removed, the run itself."""
    two, cache = Workspace(tmp_path / "two"), ArtifactCache(tmp_path)
    assert cache.take(two, "a/b", "g", ["images"]) is None
    assert cache.take(two, "a/c", "f", ["images"]) is None
    assert cache.take(done, "a/b", "f", ["images"]) is None
    assert not cache.has(two, "a/b", "g") and not cache.has(done, "a/b", "f")
    (done.root / "out.json").unlink()
    assert not cache.has(two, "a/b", "f")
    assert cache.take(two, "a/b", "f", ["images"]) is None
    assert not two.finished("a/b", "f")


def test_older_work_of_the_same_task_is_removed_first(done, tmp_path):
    """What a task of another fingerprint left is not mixed with what is taken over."""
    two = Workspace(tmp_path / "two")
    two.begin("a/b", "old", ["images"])
    write_bytes(two.root / "images/old.png", b"old")
    ArtifactCache(tmp_path).take(two, "a/b", "f", ["images"])
    assert sorted(path.name for path in (two.root / "images").rglob("*.png")) == ["x.png"]


def test_one_process_at_a_time_has_the_turn_of_a_key(tmp_path, in_child):
    """Another key does not wait; the same key waits until the first process is out."""
    import multiprocessing

    log, file = tmp_path / "log", tmp_path / "turns"

    def inside(name: str, key: str, seconds: float) -> None:
        with file_lock(file, key), log.open("a") as lines:
            lines.write(f"{name} in\n")
            lines.flush()
            time.sleep(seconds)
            lines.write(f"{name} out\n")

    context = multiprocessing.get_context("fork")
    first = context.Process(target=inside, args=("a", "k", 0.4))
    first.start()
    while not log.exists() or "a in" not in log.read_text():
        time.sleep(0.01)
    assert in_child(inside, "other", "another key", 0.0) == 0
    assert in_child(inside, "b", "k", 0.0) == 0
    first.join()
    assert log.read_text().split("\n")[:-1] == ["a in", "other in", "other out", "a out", "b in", "b out"]
