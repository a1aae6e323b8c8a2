"""`recgen clean`: only what no task needs goes, and only after it was said."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from recgen import cli
from recgen.core.errors import UserError
from recgen.pipeline import cleaning, session


@pytest.fixture
def ran(write_config, tmp_path):
    folder = tmp_path / "run"
    session.run(str(write_config(tmp_path, generators=["toy", "other"])), str(folder), until="generate")
    session.run(str(write_config(tmp_path)), str(folder), until="generate")
    return folder


def test_what_a_former_configuration_left_goes_and_nothing_else(ran, write_config, tmp_path):
    (ran / "dataset/.tmp-items.parquet").touch()
    found = {leftover.path for leftover in cleaning.leftovers(ran)}
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
    assert cleaning.leftovers(ran) == []
    plan = session.plan(str(write_config(tmp_path)), str(ran), until="generate")
    assert plan.left == [], "everything that the run needs is there"


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="a run's folder"):
        cleaning.everything(tmp_path)
