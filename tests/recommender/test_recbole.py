"""What RecBole is given: keys as they are, no command line, and one catalogue for every part of the data."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.pipeline.context import RunContext
from recgen.recommender import recbole


def test_recbole_evaluates_nothing_and_reads_no_command_line(dataset, monkeypatch):
    from recbole.model.general_recommender import BPR

    monkeypatch.setattr(sys, "argv", ["recgen", "--epochs=9", "--config=x"])
    keys = {
        "dataset": "tiny",
        "data_path": str(dataset.parent),
        "note": "__import__('os').getcwd()",
        "use_gpu": False,
    }
    config = recbole.recbole_config(BPR, keys)
    assert config["note"] == "__import__('os').getcwd()"
    assert config["epochs"] == 300
    assert sys.argv == ["recgen", "--epochs=9", "--config=x"]


def test_early_stopping_goes_by_some_users_and_everything_else_by_all(dataset, write_config, tmp_path):
    run = RunContext(load_config(str(write_config(tmp_path)), ["valid_users=5"]), tmp_path / "run")
    data = recbole.loaders(run.recbole_config("BPR"), run.split)
    valid = data.valid._dataset.inter_feat["user_id"].unique()
    assert len(valid) == 5 and len(data.test._dataset.inter_feat) == len(run.split.test.inter_feat)
    assert len(run.split.valid.inter_feat["user_id"].unique()) == 12, "what was split stays as it was"
    again = (
        recbole.loaders(run.recbole_config("BPR"), run.split).valid._dataset.inter_feat["user_id"].unique()
    )
    other = recbole.loaders(run.recbole_config("BPR", {"seed": 5}), run.split).valid._dataset.inter_feat[
        "user_id"
    ]
    assert (again == valid).all() and set(other.tolist()) != set(valid.tolist())
    every = RunContext(load_config(str(write_config(tmp_path))), tmp_path / "run")
    assert len(recbole.loaders(every.recbole_config("BPR"), every.split).valid._dataset.inter_feat) == 12


def test_halves_keep_the_catalogue(dataset, write_config, tmp_path):
    run = RunContext(load_config(str(write_config(tmp_path))), tmp_path / "run")
    config = run.recbole_config("MICRO", {"item_features": {}})
    keep = np.arange(len(run.split.train.inter_feat)) % 2 == 0
    loaders = recbole.loaders(config, run.split, keep)
    assert loaders.train.dataset.item_num == run.split.whole.item_num == 31
    assert len(loaders.train.dataset.inter_feat) == keep.sum()
    assert len(run.split.train.inter_feat) == len(keep), "the whole training set is left as it was"


@pytest.mark.parametrize(
    ("keys", "read"),
    [
        ({}, 120),
        ({"val_interval": {"rating": "[0,3];(4,9)"}}, 168),
        ({"val_interval": {"rating": "(2,5)"}}, 0),
        ({"rm_dup_inter": "last"}, 168),
    ],
)
def test_what_recbole_drops_by_value_is_not_kept_until_then(write_config, tmp_path, monkeypatch, keys, read):
    """The parts are the same, whether rows are dropped as they are read or by RecBole when all are there."""
    from recbole.data.dataset import Dataset
    from recbole.model.general_recommender import BPR

    run = RunContext(load_config(str(write_config(tmp_path))), tmp_path / "run")
    config = recbole.recbole_config(BPR, {**run.recbole_keys("BPR"), **keys})
    original, seen = Dataset._filter_by_field_value, []

    def watched(self):
        seen.append(len(self.inter_feat))
        original(self)

    monkeypatch.setattr(Dataset, "_filter_by_field_value", watched)

    def tables():
        try:
            parts = recbole.split(config, "x.yaml")
        except UserError as error:
            return str(error)
        each = (parts.train, parts.valid, parts.test)
        numbers = [
            {name: part.inter_feat[name].tolist() for name in part.inter_feat.columns} for part in each
        ]
        return numbers, {name: tokens.tolist() for name, tokens in parts.whole.field2id_token.items()}

    found = tables()
    monkeypatch.setattr(recbole, "_kept", lambda config: lambda path, piece: piece)
    assert found == tables()
    assert seen == [read, 168]
