"""The record of finished tasks: what starts clean, what goes on, what is not finished."""

from __future__ import annotations

from recgen.pipeline import workspace


def test_a_task_starts_clean_unless_it_goes_on(tmp_path):
    space = workspace.Workspace(tmp_path)
    (tmp_path / "part").mkdir()
    (tmp_path / "part/old").touch()
    space.begin("work", "first", ["part"])
    assert not (tmp_path / "part").exists()
    (tmp_path / "part").mkdir()
    (tmp_path / "part/shard").touch()
    space.begin("work", "first", ["part"])
    assert (tmp_path / "part/shard").exists(), "an interrupted task goes on"
    space.finish("work", "first", [tmp_path / "part"])
    assert space.finished("work", "first") and not space.finished("work", "second")
    space.begin("work", "second", ["part"])
    assert not (tmp_path / "part").exists() and not space.finished("work", "first")


def test_a_task_whose_output_is_gone_is_not_finished(tmp_path):
    space = workspace.Workspace(tmp_path)
    (tmp_path / "out").touch()
    space.finish("work", "print", [tmp_path / "out"])
    (tmp_path / "out").unlink()
    assert not space.finished("work", "print")
