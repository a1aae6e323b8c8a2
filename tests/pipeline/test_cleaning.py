"""`recgen clean`: only what no task needs goes, and only after it was said."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from recgen import cli
from recgen.core.errors import UserError
from recgen.core.remote import Remote
from recgen.pipeline import cleaning, home, session
from recgen.pipeline.workspace import Workspace


@pytest.fixture
def ran(write_config, tmp_path):
    folder = tmp_path / "run"
    session.run(str(write_config(tmp_path, generators=["toy", "other"])), str(folder), until="generate")
    session.run(str(write_config(tmp_path)), str(folder), until="generate")
    return folder


def test_what_a_former_configuration_left_goes_and_nothing_else(ran, write_config, tmp_path):
    (ran / "dataset/.tmp-items.parquet").touch()
    found = {leftover.path for leftover in cleaning.leftovers(str(ran))}
    assert "dataset/.tmp-items.parquet" in found and "stages/generate.other.json" in found
    assert any(path.startswith("creatives/images/other/") for path in found)
    assert not any(
        "toy" in path or path.startswith(("dataset/items", "ranker", "features")) for path in found
    )
    told = CliRunner().invoke(cli.recgen, ["clean", "--run", str(ran)], input="n\n")
    assert (
        told.exit_code == 0
        and "would delete" in told.output
        and (ran / "stages/generate.other.json").exists()
    )
    told = CliRunner().invoke(cli.recgen, ["clean", "--run", str(ran), "--yes"])
    assert told.exit_code == 0 and not (ran / "creatives/images/other").exists()
    assert cleaning.leftovers(str(ran)) == []
    plan = session.plan(str(write_config(tmp_path)), str(ran), until="generate")
    assert plan.left == [], "everything that the run needs is there"


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="a run's folder"):
        cleaning.everything(str(tmp_path))


@pytest.fixture
def ran_there(write_config, tmp_path, url, monkeypatch):
    """A run at an URL, from one machine, which another generator has left; another machine is at hand."""
    (tmp_path / "first").mkdir()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "first")
    session.run(str(write_config(tmp_path, generators=["toy", "other"])), url, until="generate")
    session.run(str(write_config(tmp_path)), url, until="generate")
    return url


def files_of(url):
    return {name for name in Remote(url).sizes() if not name.startswith(".")}


def test_a_run_at_an_url_is_cleaned_there_and_here_and_nothing_is_fetched(
    ran_there, write_config, tmp_path, monkeypatch
):
    Remote(ran_there).create("dataset/.tmp-items.parquet", b"half-written")
    before = files_of(ran_there)
    first = home.folder_of(ran_there).resolve()
    monkeypatch.chdir(tmp_path / "other")
    told = CliRunner().invoke(cli.recgen, ["clean", "--run", ran_there], input="n\n")
    assert told.exit_code == 0 and "was being written" in told.output and files_of(ran_there) == before
    told = CliRunner().invoke(cli.recgen, ["clean", "--run", ran_there, "--yes"])
    assert told.exit_code == 0, told.output
    gone = before - files_of(ran_there)
    assert gone and all("other" in name or name.startswith("recbole/") for name in gone)
    assert "stages/generate.other.json" in gone and any(name.endswith(".png") for name in gone)
    assert cleaning.leftovers(ran_there) == []
    assert not (home.folder_of(ran_there) / "creatives").exists(), (
        "the other machine has nothing of the run's"
    )
    monkeypatch.chdir(tmp_path / "first")
    session.run(str(write_config(tmp_path)), ran_there, until="generate")
    assert not gone & files_of(ran_there), "and the first does not take its copies there again"
    assert not (first / "stages/generate.other.json").exists()


def test_the_working_folder_is_cleaned_with_its_url(ran_there):
    folder = home.folder_of(ran_there)
    assert (folder / "creatives/images/other").is_dir()
    with pytest.raises(UserError, match="the working folder of a run at"):
        cleaning.leftovers(str(folder))
    cleaning.delete(ran_there, cleaning.leftovers(ran_there))
    assert not (folder / "creatives/images/other").exists() and (folder / "creatives/images/toy").is_dir()


def test_the_whole_run_goes_at_an_url(ran_there, monkeypatch):
    contents, listings = home.Home.contents, []
    with monkeypatch.context() as patch:
        patch.setattr(home.Home, "contents", lambda place: (listings.append(1), contents(place))[1])
        assert files_of(ran_there) <= {leftover.path for leftover in cleaning.everything(ran_there)}
    assert len(listings) == 1, "a folder at an URL is slow to list"
    told = CliRunner().invoke(cli.recgen, ["clean", "--run", ran_there, "--all", "--yes"])
    assert told.exit_code == 0, told.output
    assert Remote(ran_there).entries() == {}
    with pytest.raises(UserError, match="no config.yaml there"):
        cleaning.leftovers(ran_there)


def test_a_run_at_an_url_that_is_at_work_is_left_alone(ran_there, tmp_path, monkeypatch, impatient):
    before = files_of(ran_there)
    with Workspace(home.folder_of(ran_there).resolve()).lock():
        monkeypatch.chdir(tmp_path / "other")
        with pytest.raises(UserError, match="at work on it"):
            cleaning.delete(ran_there, cleaning.leftovers(ran_there))
    assert files_of(ran_there) == before
