"""Parts of a run at an URL, drawn by machines that share nothing else; on S3 (moto's server) and in a plain folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from recgen.core.errors import UserError
from recgen.core.remote import Remote
from recgen.pipeline import home, lease, parts, session
from recgen.pipeline.parts import Part
from recgen.pipeline.workspace import Workspace

TASK, PLACE = "generate/toy", ("creatives/shards/toy", "creatives/images/toy")
CHUNK = (
    "creatives/images/toy/{}.png",
    "creatives/shards/toy/{}.safetensors",
    "creatives/shards/toy/{}.parquet",
)
SETTINGS = {"generators": ["toy"], "shard_size": 2, "controls": ["constant", "swapped"]}


@pytest.fixture
def go_to(tmp_path, monkeypatch) -> Callable[[str], None]:
    """Return what goes to the machine of a name: each has its own disk."""

    def go(name: str) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)

    return go


@contextmanager
def at_part(url: str, part: str) -> Iterator[Workspace]:
    workspace = Workspace(home.folder_of(url, part).resolve())
    with workspace.sharing(part):
        yield workspace


def write(workspace: Workspace, number: int, text: str = "") -> list[Path]:
    """Write a chunk."""
    paths = [workspace.root / name.format(number) for name in CHUNK]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text or path.name)
    return paths


def names(*numbers: int) -> set[str]:
    return {name.format(number) for name in CHUNK for number in numbers}


def chunks(url: str) -> set[str]:
    return set(Remote(url).sizes("creatives"))


def test_parts_share_an_url_and_keep_a_run_out_and_a_run_keeps_them_out(url, go_to, impatient):
    go_to("here")
    run = Workspace(home.folder_of(url).resolve())
    with at_part(url, "1-of-2"), at_part(url, "2-of-2"):
        with (
            pytest.raises(
                UserError, match=r"process .* at work on it, which draws part [12]/2 of its creatives"
            ),
            run.lock(),
        ):
            pass
        go_to("other")
        with pytest.raises(UserError, match="which draws part 2/2"), at_part(url, "2-of-2"):
            pass
    with run.lock():
        with pytest.raises(UserError, match="at work on it; expected no other run"), at_part(url, "1-of-2"):
            pass
        run.begin(TASK, "one", PLACE)  # it has not noticed
    assert {name for name in Remote(url).sizes() if name.startswith(".")} == {".writer"}, "nobody is left"


def test_a_run_takes_the_place_of_a_silent_part_which_finds_out(url, go_to, impatient, monkeypatch):
    go_to("here")
    monkeypatch.setattr(lease, "RENEWED", 1000.0)  # as if suspended
    with at_part(url, "1-of-1") as part:
        part.join(TASK, "one", PLACE)
        with (
            Workspace(home.folder_of(url).resolve()).lock(),
            pytest.raises(UserError, match="process .* at work on it"),
        ):
            part.publish(write(part, 0))
    assert not chunks(url)


def test_the_first_part_empties_the_place_and_no_other(url, go_to):
    go_to("a")
    with at_part(url, "1-of-2") as old:
        old.join(TASK, "old", PLACE)
        old.publish(write(old, 0))
    with at_part(url, "1-of-2") as first:
        go_to("b")
        with at_part(url, "2-of-2") as second:  # which sees the old task begun
            first.join(TASK, "new", PLACE)
            assert not chunks(url)
            first.publish(write(first, 0))
            second.join(TASK, "new", PLACE)
            second.publish(write(second, 1))
            assert chunks(url) == names(0, 1)


def test_a_part_takes_what_is_at_the_url_and_not_what_its_folder_has(url, go_to):
    """A chunk of the same name may have been drawn elsewhere since, for other settings."""
    go_to("here")
    with at_part(url, "1-of-1") as part:
        part.join(TASK, "one", PLACE)
        part.publish(write(part, 0, "old"))
        write(part, 1, "never got there")
    Remote(url).commit(CHUNK[0].format(0), b"new")
    with at_part(url, "1-of-1") as part:
        part.join(TASK, "one", PLACE)
        assert not list(part.root.rglob("*.png")), "other parts' chunks are not fetched"
        part.obtain([part.root / name for name in names(0, 1)])
        found = {path.relative_to(part.root).as_posix() for path in part.root.glob("creatives/*/toy/*")}
        assert found == names(0) and (part.root / CHUNK[0].format(0)).read_text() == "new"


def test_a_folder_that_was_in_line_is_not_after_parts(url, go_to):
    go_to("here")
    run = Workspace(home.folder_of(url).resolve())
    with run.lock():
        run.begin(TASK, "one", PLACE)
        run.publish(write(run, 0, "of the run"))
    with at_part(url, "1-of-1") as part:
        part.join(TASK, "one", PLACE)
        part.publish(write(part, 0, "of a part"))
    with run.lock():
        assert {(run.root / name).read_text() for name in names(0)} == {"of a part"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, write_config) -> tuple[Path, pd.DataFrame, Path]:
    """A configuration, the creatives that one process draws, and the run's folder as it was before it drew them."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder, **SETTINGS)
    session.run(str(config), str(folder / "run"), until="generator.fit")
    shutil.copytree(folder / "run", folder / "fitted")
    session.run(str(config), str(folder / "run"), until="generate")
    return config, drawn(folder / "run"), folder / "fitted"


def drawn(folder: Path) -> pd.DataFrame:
    tables = [folder / "creatives/manifest.parquet", *sorted(folder.glob("creatives/shards/*/*.parquet"))]
    return pd.concat(map(pd.read_parquet, tables), ignore_index=True).drop(columns="seconds")


def fitted_at(url: str, fitted: Path) -> None:
    """Put a run at an URL whose generators are fitted, as the run itself leaves it there."""
    shutil.copytree(fitted, home.folder_of(url), dirs_exist_ok=True)
    with Workspace(home.folder_of(url).resolve()).lock():
        pass


@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_three_parts_at_an_url_are_one_run(url, whole, go_to):
    config, expected, fitted = whole
    go_to("first")
    with pytest.raises(UserError, match=r"--out .*: found no finished task in it"):
        parts.generate(str(config), Part(1, 3), url)
    fitted_at(url, fitted)
    for part in (1, 3):
        go_to(f"machine {part}")
        assert "chunks of it now" in parts.generate(str(config), Part(part, 3), url)
    go_to("collector")
    with pytest.raises(UserError, match=r"toy, control.constant not drawn; part 2/3 never started"):
        parts.collect(str(config), url)
    before = {name for name in chunks(url) if name.endswith(".parquet")}
    Remote(url).commit(
        min(name for name in chunks(url) if name.startswith("creatives/images/toy/")), b"damaged"
    )
    go_to("another collector")
    with pytest.raises(UserError, match=r"part [13]/3 has ended"):
        parts.collect(str(config), url)
    counts = []
    for part in (1, 2, 3):
        go_to(f"another machine {part}")
        counts.append(int(parts.generate(str(config), Part(part, 3), url).split(" chunks")[0].split()[-1]))
    assert sum(counts) == 2 * 6 - len(before) + 1, "what was there and whole is drawn once"
    go_to("collector")
    try:
        parts.collect(str(config), url)
    except UserError as error:
        assert "swapped.toy not drawn" in str(error)
        parts.generate(str(config), Part(1, 1), url)
        parts.collect(str(config), url)
    folder = home.folder_of(url)
    pd.testing.assert_frame_equal(drawn(folder), expected)
    assert not [name for name in Remote(url).sizes("parts") if name.endswith(".json")]
    assert {f"parts/{part}-of-3.txt" for part in (1, 2, 3)} <= Remote(url).sizes("parts").keys()
    go_to("last")
    session.run(str(config), url, until="generate")
    pd.testing.assert_frame_equal(drawn(home.folder_of(url)), expected)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_parts_at_once_of_which_one_is_killed(url, whole, go_to, tmp_path, impatient):
    config, expected, fitted = whole
    go_to("first")
    fitted_at(url, fitted)

    def start(part: int, machine: str) -> subprocess.Popen:
        (tmp_path / machine).mkdir(exist_ok=True)
        program = "from recgen.pipeline import lease, parts; lease.RENEWED, lease.PATIENCE = 0.1, 3.0; "
        program += f"parts.generate({str(config)!r}, parts.Part({part}, 3), {url!r})"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=tmp_path / machine,
            env=environment,
            stderr=subprocess.DEVNULL,
        )

    victim, *others = [start(part, f"machine-{part}") for part in (2, 1, 3)]
    until = time.monotonic() + 300
    second = {f"creatives/shards/toy/{first:07d}.parquet" for first in (2, 8)}
    while not second & chunks(url) and time.monotonic() < until and victim.poll() is None:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert [each.wait(300) for each in others] == [0, 0]
    for part in (1, 2, 3):
        assert start(part, "elsewhere").wait(300) == 0
    go_to("collector")
    try:
        parts.collect(str(config), url)
    except UserError:  # of `swapped`, what has to be drawn first
        assert (
            start(1, "elsewhere").wait(300)
            == start(2, "elsewhere").wait(300)
            == start(3, "elsewhere").wait(300)
            == 0
        )
        parts.collect(str(config), url)
    pd.testing.assert_frame_equal(drawn(home.folder_of(url)), expected)
