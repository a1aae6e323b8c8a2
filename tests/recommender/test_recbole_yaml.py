"""RecBole's Config read by the loader in C says what it says by the loader in Python, and changes nobody else's."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from typing import Any

import pytest
import yaml
from recbole.config import Config

from recgen.core import compat
from recgen.recommender.recbole import model_class, recbole_config

KEYS: dict[str, Any] = {
    "dataset": "ml-100k",
    "data_path": "somewhere",
    "learning_rate": "5e-4",
    "weight_decay": 1e-6,
    "topk": [5, 10],
    "valid_metric": "NDCG@10",
    "train_neg_sample_args": {"distribution": "uniform", "sample_num": 2},
    "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "mode": "full"},
}


def settings(name: str) -> dict[str, str]:
    found = recbole_config(model_class(name, "test"), KEYS).final_config_dict
    return {key: repr(value) for key, value in found.items()}


@pytest.mark.parametrize("name", ["BPR", "LightGCN", "MICRO", "VBPR"])
def test_both_loaders_read_the_same(name, monkeypatch):
    with compat.recbole_yaml():
        assert issubclass(Config._build_yaml_loader(None), yaml.CFullLoader)
    fast = settings(name)
    monkeypatch.setattr(compat, "recbole_yaml", nullcontext)
    assert fast == settings(name) and fast["learning_rate"] == "0.0005"


def test_a_config_can_be_pickled_and_read_without_us():
    config = recbole_config(model_class("BPR", "test"), KEYS)
    assert b"recgen" not in pickle.dumps(config)


def test_the_loader_of_others_is_left_alone():
    settings("BPR")
    before = {first: list(found) for first, found in yaml.FullLoader.yaml_implicit_resolvers.items()}
    settings("BPR")
    assert before == yaml.FullLoader.yaml_implicit_resolvers
