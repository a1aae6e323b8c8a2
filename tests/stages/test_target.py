"""`recgen.eval_split: validation`: a run on data that end before the test part."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext

GOALS = ("generate/toy", "downstream/toy/0", "downstream/reranked/0")


def _run(config: str, folder: Path, target: str, goals: tuple[str, ...], *overrides: str) -> RunContext:
    run = RunContext(
        load_config(config, [f"recgen.eval_split={target}", "recgen.downstream.seeds=1", *overrides]), folder
    )
    pipeline.execute(run, goals=goals)
    return run


@pytest.fixture(scope="module")
def config(write_config, tmp_path_factory):
    return str(write_config(tmp_path_factory.mktemp("config")))


def _files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file a stage wrote; training.json without the seconds that it took."""
    kept = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {
        name: re.sub(rb'"seconds": [\d.e-]+', b"", data) if name.endswith("training.json") else data
        for name, data in kept.items()
        if not name.startswith(("stages/", "threads.txt"))
    }


def _numbering(table: pd.DataFrame) -> list[str]:
    """Return liked items in the order in which they first appear, which is how RecBole numbers them."""
    return table.loc[table["rating:float"] == "5", "item_id:token"].unique().tolist()


def test_the_former_validation_item_is_the_reference_and_nothing_later_is_there(config, tmp_path):
    """With leave-one-out, each user's data end one like sooner; dislikes after the new reference go too."""
    test = _run(config, tmp_path / "test", "test", ("dataset/requests",))
    valid = _run(config, tmp_path / "valid", "validation", ("dataset/requests",))
    before, after = (run.interactions[run.interactions["like"]] for run in (test, valid))
    for user, rows in before.groupby("user_id"):
        kept = after[after["user_id"] == user]
        assert kept["item_id"].tolist() == rows["item_id"].tolist()[:-1]
        assert kept["split"].tolist() == ["train"] * (len(rows) - 3) + ["valid", "test"]
    ends = after.groupby("user_id")["timestamp"].max()
    dislikes = valid.interactions[~valid.interactions["like"]]
    assert len(dislikes) and (dislikes["timestamp"] < dislikes["user_id"].map(ends)).all()
    references = {request.user_id: request for request in valid.requests}
    for request in test.requests:
        assert references[request.user_id].item_id == request.history[-1]
        assert references[request.user_id].history == request.history[:-1]


def test_what_the_test_split_holds_changes_no_file_of_any_stage(config, dataset, tmp_path):
    """Other test likes, at other times: every file up to the objectives' is the same bytes; with target test it is not."""
    other = tmp_path / "data/tiny"
    shutil.copytree(dataset, other)
    table = pd.read_csv(other / "tiny.inter", sep="\t", dtype=str)
    changed = 0
    for _, rows in table.groupby("user_id:token", sort=False):
        trial, seen = table.copy(), set(rows["item_id:token"])
        last = rows[rows["rating:float"] == "5"].index[-1]
        trial.loc[last, "item_id:token"] = next(f"i{n}" for n in range(30) if f"i{n}" not in seen)
        trial.loc[last, "timestamp:float"] = str(float(trial.loc[last, "timestamp:float"]) + 0.5)
        if _numbering(trial) == _numbering(table):
            table, changed = trial, changed + 1
    assert changed >= 5
    table.to_csv(other / "tiny.inter", sep="\t", index=False)
    where = f"data_path={other.parent}"
    one = _files(_run(config, tmp_path / "one", "validation", GOALS).folder)
    two = _files(_run(config, tmp_path / "two", "validation", GOALS, where).folder)
    assert {name.split("/")[0] for name in one} >= {
        "dataset",
        "features",
        "ranker",
        "generator",
        "creatives",
        "downstream",
    }
    assert set(one) == set(two)
    assert [name for name in one if one[name] != two[name]] == []
    seen = [
        _run(config, tmp_path / name, "test", ("dataset/requests",), *extra)
        for name, extra in (("a", ()), ("b", (where,)))
    ]
    assert _files(seen[0].folder) != _files(seen[1].folder)


def test_a_split_of_ones_own_cannot_end_sooner(config, dataset, tmp_path):
    """RecBole takes `benchmark_filename` as it is; there is no rule by which it could be split again."""
    files = tmp_path / "data/tiny"
    shutil.copytree(dataset, files)
    lines = (files / "tiny.inter").read_text().splitlines()
    for name, part in (("train", lines[1:100]), ("valid", lines[100:130]), ("test", lines[130:])):
        (files / f"tiny.{name}.inter").write_text("\n".join([lines[0], *part]) + "\n")
    values = yaml.safe_load(Path(config).read_text())
    values |= {"benchmark_filename": ["train", "valid", "test"], "data_path": str(files.parent)}
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match="benchmark_filename"):
        _run(str(path), tmp_path / "run", "validation", ("dataset",))
