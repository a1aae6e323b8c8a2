"""What is damaged in a run's folder is noticed, named and made again; bookkeeping that cannot be read means done again."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import pytest

from recgen import api
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.pipeline.workspace import Workspace


@pytest.fixture(scope="module")
def finished(write_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder)
    pipeline.execute(RunContext(load_config(str(config)), folder / "run"))
    return config, folder / "run"


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run that may be damaged, and a function that runs it again and returns the tasks that ran."""
    config, folder = finished
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)  # with the times of change
    return copy, lambda: pipeline.execute(RunContext(load_config(str(config)), copy))


def flip(path: Path) -> None:
    """Change one byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("file", "task"),
    [
        ("features/image.ids.txt", "features"),
        ("features/image.safetensors", "features"),
        ("ranker/judge/model.safetensors", "ranker/judge"),
        ("evaluation/toy.parquet", "evaluate/toy"),
        ("dataset/items.parquet", "dataset"),
    ],
)
def test_a_changed_byte_is_noticed_named_and_made_again(run, file, task, caplog):
    folder, again = run
    before = (folder / file).read_bytes()
    flip(folder / file)
    with caplog.at_level(logging.WARNING, "recgen"):
        assert task in again()
    assert f"{task}: {file} is damaged" in caplog.text
    assert (folder / file).read_bytes() == before and again() == []


def test_two_images_in_each_others_place_are_drawn_again_and_no_other(run):
    folder, again = run
    one, other, *rest = sorted((folder / "creatives/images/toy").glob("*.png"))
    contents, times = (
        {path: path.read_bytes() for path in (one, other)},
        [path.stat().st_mtime_ns for path in rest],
    )
    one.write_bytes(contents[other])
    other.write_bytes(contents[one])
    assert again() == ["generate/toy"]
    assert {path: path.read_bytes() for path in (one, other)} == contents
    untouched = sum(path.stat().st_mtime_ns == time for path, time in zip(rest, times, strict=True))
    assert untouched >= len(rest) - 8, "only the chunks of the two are drawn again"
    assert again() == []


def test_shards_in_each_others_place_are_noticed(run):
    folder, again = run
    one, other = sorted((folder / "creatives/shards/toy").glob("*.safetensors"))[:2]
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)
    assert "generate/toy" in again()
    assert one.read_bytes() == first


def test_a_touched_file_is_not_made_again(run):
    folder, again = run
    os.utime(folder / "features/image.safetensors")
    assert again() == []


def test_damage_that_keeps_size_and_time_is_found_by_verify(run):
    folder, again = run
    path = folder / "ranker/judge/model.safetensors"
    status, before = path.stat(), path.read_bytes()
    flip(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert again() == [], "size and time are those on record"
    assert Workspace(folder).verify() == {"ranker.judge": ["ranker/judge/model.safetensors"]}
    assert again() == ["ranker/judge"] and path.read_bytes() == before
    assert Workspace(folder).verify() == {}


def test_a_report_that_is_written_anew_is_not_damaged(run, monkeypatch):
    """By another version of recgen, for example, the same command writes another page."""
    folder, _ = run
    page = folder / "report.html"

    def build(folder, out=None):
        page.write_text("another page")
        return page

    monkeypatch.setattr("recgen.report.build", build)
    assert api.report_again(str(folder), []) == page
    assert Workspace(folder).verify() == {}
    page.write_text("by hand")
    assert Workspace(folder).verify() == {"report": ["report.html"]}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"fingerprint": 1}', "\udcff", '{"fingerprint": "x", "outputs": {"a": 1}}', "[" * 10**5],
)
def test_a_record_that_cannot_be_read_means_done_again(run, text):
    folder, again = run
    (folder / "stages/ranker.judge.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert Workspace(folder).verify() == {"ranker.judge": ["stages/ranker.judge.json"]}
    assert "ranker/judge" in again()
    assert again() == []


def test_a_folder_at_work_is_not_verified(run):
    """What is being made again looks damaged, and its record would be written back."""
    folder, _ = run
    with Workspace(folder).lock(), pytest.raises(UserError, match="at work in it"):
        api.verify(folder)


@pytest.mark.parametrize("option", ["until", "force"])
def test_a_mistyped_stage_changes_no_folder(run, tmp_path, option):
    folder, again = run
    before = (folder / "config.yaml").read_bytes() if (folder / "config.yaml").exists() else None
    for where in (folder, tmp_path / "new"):
        with pytest.raises(UserError, match=f"--{option} gat: .*Did you mean 'gate'"):
            api.run("simulated", where, **{option: "gat"})
    assert not (tmp_path / "new").exists()
    assert ((folder / "config.yaml").read_bytes() if before else None) == before


def test_a_record_of_an_earlier_version_is_read(run):
    folder, again = run
    path = folder / "stages/features.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "outputs": list(record["outputs"])}))
    assert again() == []
    (folder / "features/text.safetensors").unlink()
    assert "features" in again()


def test_the_command_names_what_is_damaged_and_ends_with_2(run, monkeypatch, capsys):
    from recgen import cli

    def call() -> int:
        monkeypatch.setattr("sys.argv", ["recgen", "verify", "--run", str(folder)])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    folder, again = run
    assert call() == 0 and "as it was written" in capsys.readouterr().out
    flip(folder / "features/image.safetensors")
    assert call() == 2 and "1 files damaged or gone: features/image.safetensors" in capsys.readouterr().err
    again()
    assert call() == 0
