"""Creatives drawn in parts by several processes at once are those of one run, whoever is killed on the way."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recgen import api
from recgen.core.errors import UserError
from recgen.pipeline import parts
from recgen.pipeline.parts import Part
from recgen.pipeline.workspace import Workspace

SETTINGS = {"generators": ["toy", "other"], "shard_size": 2, "controls": ["constant", "swapped"]}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, write_config) -> tuple[Path, Path]:
    """A configuration, and the folder of a run of it that ends with its generators fitted."""
    folder = tmp_path_factory.mktemp("fitted")
    config = write_config(folder, **SETTINGS)
    api.run(str(config), str(folder / "run"), until="generator.fit")
    return config, folder / "run"


@pytest.fixture(scope="module")
def whole(fitted, tmp_path_factory) -> dict[str, Any]:
    """What one process draws."""
    config, run = fitted
    folder = shutil.copytree(run, tmp_path_factory.mktemp("whole") / "run")
    api.run(str(config), str(folder), until="generate")
    return drawn(folder)


def drawn(folder: Path) -> dict[str, Any]:
    """Every row that a creative has but how long it took, with the digests, of generators and controls, and all embeddings."""
    shards = {
        str(path.relative_to(folder)): pd.read_parquet(path).drop(columns="seconds").to_csv()
        for path in sorted(folder.glob("creatives/shards/*/*.parquet"))
    }
    return {
        "manifest": (folder / "creatives/manifest.parquet").read_bytes(),
        "embeddings": (folder / "creatives/embeddings.safetensors").read_bytes(),
        **shards,
    }


@pytest.fixture
def folder(fitted, tmp_path) -> Path:
    """A copy of the fitted run to draw in."""
    return shutil.copytree(fitted[1], tmp_path / "run")


def start(function: Callable[..., Any], *arguments: Any) -> multiprocessing.process.BaseProcess:
    def body() -> None:
        with open(os.devnull, "w") as sys.stderr:
            function(*arguments)

    process = multiprocessing.get_context("fork").Process(target=body)
    process.start()
    return process


def wait(*processes: multiprocessing.process.BaseProcess) -> list[int | None]:
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def draw(config: Path, folder: Path, part: str) -> str:
    return parts.generate(str(config), Part.parse(part), str(folder))


def draw_and_die(config: Path, folder: Path, part: str) -> None:
    """Draw, and be killed when the second chunk's images and embeddings are written and its table is not."""
    from recgen.stages import chunks

    original, written = chunks.write_parquet, []

    def write(path: Path, frame: pd.DataFrame) -> None:
        written.append(path)
        if len(written) == 2:
            path.with_name(".tmp-half").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        original(path, frame)

    chunks.write_parquet = write
    draw(config, folder, part)


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("creatives/shards/*/*.parquet")}


def test_three_at_once_are_one_run_also_when_one_is_killed(fitted, folder, whole):
    config, _ = fitted
    others = [start(draw, config, folder, part) for part in ("1/3", "3/3")]
    killed = start(draw_and_die, config, folder, "2/3")
    assert wait(killed, *others) == [-signal.SIGKILL, 0, 0]

    with pytest.raises(UserError, match=r"part 2/3 stopped before its end") as caught:
        parts.collect(str(config), str(folder))
    assert "1/3" not in str(caught.value) and "3/3" not in str(caught.value)

    before = times(folder)
    assert len(before) == 3 * 6 - 5, "of the killed part's six chunks one"
    again = draw(config, folder, "2/3")
    assert "5 chunks" in again and "swapped.toy, swapped.other: after recgen collect" in again
    with pytest.raises(
        UserError, match=r"chunks of swapped.toy, swapped.other not drawn; part 1/3 has ended"
    ):
        parts.collect(str(config), str(folder))
    assert wait(*(start(draw, config, folder, f"{part}/3") for part in (1, 2, 3))) == [0, 0, 0]
    assert "24 creatives" in parts.collect(str(config), str(folder))

    assert drawn(folder) == whole
    after = times(folder)
    assert {path: after[path] for path in before} == before, "nothing is drawn twice"
    assert not list(folder.rglob(".tmp-*")) and not list((folder / "parts").glob("*.json"))
    api.run(str(config), str(folder), until="generate")
    assert times(folder) == after, "a run finds it all done"


def test_parts_keep_runs_out_and_their_half_written_files_stay(fitted, folder):
    config, _ = fitted
    half = folder / "creatives/.tmp-1"
    half.parent.mkdir()
    half.touch()
    with Workspace(folder).sharing():
        draw(config, folder, "2/2")
        assert half.exists(), "it may be another part's"
        with pytest.raises(UserError, match="draw parts of its creatives"):
            api.run(str(config), str(folder))
        with pytest.raises(UserError, match="draw parts of its creatives"):
            parts.collect(str(config), str(folder))
    with Workspace(folder).lock(), pytest.raises(UserError, match=f"process {os.getpid()} at work"):
        draw(config, folder, "1/2")
    assert not half.exists()


def test_one_process_a_part(fitted, folder):
    config, _ = fitted
    (folder / "parts").mkdir()
    with parts._alone(folder / "parts", Part(1, 2)):
        with pytest.raises(UserError, match="--part 1/2: found a process that draws it"):
            draw(config, folder, "1/2")
        draw(config, folder, "2/2")


def test_what_was_drawn_with_other_settings_is_drawn_again(fitted, folder, write_config, tmp_path):
    config, _ = fitted
    draw(config, folder, "1/1")
    old = times(folder)
    other = write_config(tmp_path, **SETTINGS, toy={"strength": 0.9})
    # Of six of swapped.other, one needs nothing drawn: two users share an item.
    with pytest.raises(UserError, match=r"11 chunks of toy, swapped.other not drawn; part 1/1 has ended"):
        parts.collect(str(other), str(folder))
    assert not [path for path in times(folder) if path.parent.name == "toy"]
    assert wait(*(start(draw, other, folder, part) for part in ("1/2", "2/2"))) == [0, 0]
    kept = [path for path, when in times(folder).items() if old.get(path) == when]
    assert {path.parent.name for path in kept} == {"other", "control.constant"}


def test_a_part_of_a_run_that_is_not_fitted_says_what_to_do(fitted, write_config, folder, tmp_path):
    config, _ = fitted
    with pytest.raises(UserError, match="--until generator.fit"):
        draw(config, tmp_path / "nowhere", "1/2")
    assert not (tmp_path / "nowhere").exists()
    other = write_config(tmp_path, **SETTINGS, toy={"brightness": 9.0})
    for attempt in (lambda: draw(other, folder, "1/2"), lambda: parts.collect(str(other), str(folder))):
        with pytest.raises(UserError, match=r"generator.fit/toy not done, or done with other settings"):
            attempt()


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "/3", "1/0", "a/b", "-1/3", "1.5/3"])
def test_parts_that_are_none(text):
    with pytest.raises(UserError, match="counted from 1"):
        Part.parse(text)
