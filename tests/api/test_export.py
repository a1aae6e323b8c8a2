"""An exported run is a RecBole data set: the run's split, the creatives' features, and the scripts that the guide prints."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from recgen import api as session
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.export import export
from recgen.pipeline.context import RunContext
from recgen.stages.generate import creatives

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory, write_config) -> RunContext:
    """A run of two generators up to generate."""
    folder = tmp_path_factory.mktemp("run")
    config = str(write_config(folder, generators=["toy", "other"], other={"strength": 0.9}, gate=None))
    session.run(config, str(folder / "run"), (), "generate")
    return RunContext(load_config(config), folder / "run")


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> Path:
    """A folder whose data/mine is the run with the images of one of its generators."""
    folder = tmp_path_factory.mktemp("exported")
    told = export(str(run.folder), str(folder / "data"), "mine", "toy", images=True)
    assert "30 items with the images of toy" in told
    return folder


def printed(name: str) -> str:
    """Return the script that the guide prints under this name."""
    scripts = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/guides/export.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (found,) = [script for script in scripts if script.startswith(f"# {name}\n")]
    return found


def result(folder: Path, name: str) -> dict[str, float]:
    """Run the guide's script in a process of its own, for fewer epochs, and return the test result that it prints."""
    (folder / name).write_text(printed(name), encoding="utf-8")
    command = [sys.executable, name, "--epochs=3", "--use_gpu=False", "--show_progress=False"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return ast.literal_eval(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("script", ["images.py", "micro.py"])
def test_readmes_script_trains_on_it(exported, script):
    found = result(exported, script)
    assert {"recall@10", "ndcg@10"} <= set(found)
    assert 0 < found["recall@20"] <= 1


def recbole_dataset(exported: Path, keys: dict) -> tuple:
    """Return RecBole's dataset and its three parts, read by an exported YAML."""
    from recbole.data import create_dataset
    from recbole.model.general_recommender import BPR

    from recgen.recommender import recbole

    config = recbole.recbole_config(BPR, {**keys, "use_gpu": False})
    dataset = create_dataset(config)
    return dataset, dataset.build()


def keys_of(exported: Path, name: str) -> dict:
    import yaml

    return yaml.safe_load((exported / f"data/mine/{name}.yaml").read_text(encoding="utf-8"))


def pairs(dataset, part) -> set[tuple[str, str]]:
    names = (dataset.id2token(field, part.inter_feat[field].numpy()) for field in ("user_id", "item_id"))
    return set(zip(*names, strict=True))


@pytest.mark.parametrize("by", ["benchmark files", "RecBole's own leave-one-out"])
def test_the_split_is_the_runs(exported, run, by):
    keys = keys_of(exported, "mine")
    if by != "benchmark files":
        del keys["benchmark_filename"]
    dataset, parts = recbole_dataset(exported, keys)
    assert dataset.item_num == len(run.items) + 1
    for name, part in zip(("train", "valid", "test"), parts, strict=True):
        rows = run.interactions[run.interactions["split"] == name]
        assert pairs(dataset, part) == set(zip(rows["user_id"], rows["item_id"], strict=True)) and len(rows)


def test_features_have_the_creatives_mixed_in(exported, run):
    dataset, _ = recbole_dataset(exported, keys_of(exported, "mine"))
    preloaded = dataset.get_preload_weight("image_id")
    mapped = np.load(exported / "data/mine/mine.image.npy", mmap_mode="r")
    tokens = (exported / "data/mine/mine.image.ids.txt").read_text(encoding="utf-8").splitlines()
    assert isinstance(mapped, np.memmap) and mapped.dtype == np.float32
    read = preloaded[dataset.token2id("item_id", tokens)].astype(np.float32)
    assert (read == mapped).all(), "text brings the same float32 back"

    rows, made = creatives(run, "toy")
    own = dict(zip(*run.features("image"), strict=True))
    drawn = set(rows["item_id"])
    assert drawn and drawn < set(tokens)
    for token, feature in zip(tokens, mapped, strict=True):
        mean = made[(rows["item_id"] == token).to_numpy()].mean(axis=0) if token in drawn else own[token]
        np.testing.assert_allclose(feature, (own[token] + mean) / 2, rtol=1e-5)


def test_both_ways_of_reading_are_one(exported):
    """MICRO gets the same features from RecBole's preloaded weights and from the arrays."""
    from recbole.config import Config

    from ranking_models.features import load_item_features

    found = []
    for name in ("mine", "mine-arrays"):
        keys = keys_of(exported, name)
        dataset, _ = recbole_dataset(exported, keys)
        config: Config = dataset.config
        config["item_features"] = keys.get("item_features")
        found.append(load_item_features(config, dataset))
    assert set(found[0]) == set(found[1]) == {"image", "text"}
    for kind in ("image", "text"):
        torch.testing.assert_close(found[0][kind], found[1][kind])


def test_images_come_with_a_manifest(exported, run):
    table = pd.read_csv(exported / "data/mine/creatives/manifest.csv", dtype=str)
    rows, _ = creatives(run, "toy")
    assert table[["user_id", "item_id"]].equals(rows[["user_id", "item_id"]])
    for mine, theirs in zip(table["path"], rows["path"], strict=True):
        assert (exported / "data/mine/creatives" / mine).read_bytes() == (run.folder / theirs).read_bytes()


def test_the_originals_can_be_exported(run, tmp_path):
    export(str(run.folder), str(tmp_path), "plain", "ORI")
    ids, features = run.features("image")
    assert (np.load(tmp_path / "plain/plain.image.npy") == features).all()
    assert (tmp_path / "plain/plain.image.ids.txt").read_text().split() == ids
    assert (
        (tmp_path / "plain/plain.item")
        .read_text()
        .startswith("item_id:token\ttitle:token_seq\tclass:token_seq\n")
    )
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("mine", None), "one of ORI, toy, other"),
        (("mine", "toi"), "Did you mean 'toy'?"),
        (("a/b", "toy"), "without slashes"),
    ],
)
def test_mistakes_are_explained(run, tmp_path, arguments, says):
    with pytest.raises(UserError, match=re.escape(says)):
        export(str(run.folder), str(tmp_path), *arguments)
    assert not list(tmp_path.iterdir())


def test_nothing_that_is_there_is_overwritten(run, exported):
    with pytest.raises(UserError, match="already there"):
        export(str(run.folder), str(exported / "data"), "mine", "toy")


def test_a_run_that_is_not_finished_says_so(run, tmp_path):
    with pytest.raises(UserError, match=r"no config\.yaml"):
        export(str(tmp_path), str(tmp_path), "mine")
    table = run.folder / "creatives/shards/toy/0000005.parquet"
    table.rename(run.folder / "away")
    try:
        with pytest.raises(UserError, match="7 of 12 creatives of toy.*--until generate"):
            export(str(run.folder), str(tmp_path), "mine", "toy")
    finally:
        (run.folder / "away").rename(table)
    assert not (tmp_path / "mine").exists()


def test_an_array_of_something_else_is_refused(tmp_path):
    from ranking_models.features import read_features

    (tmp_path / "x.ids.txt").write_text("a\n")
    for wrong in (np.array(["text"]), np.zeros(3)):
        np.save(tmp_path / "x.npy", wrong)
        with pytest.raises(UserError, match=r"numbers \[items, D\]"):
            read_features(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(UserError, match="NumPy array"):
        read_features(tmp_path / "x.npy")
