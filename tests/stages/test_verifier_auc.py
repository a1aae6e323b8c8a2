"""The verifier against the taste behind its data: how near a model of likes and dislikes comes to the truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from recgen.config.loader import load_config
from recgen.data.simulation.simulator import Truth, true_auc
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.stages import ranker

BAR = 0.03
USERS, ITEMS, ENCOUNTERS = 200, 600, 500


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> RunContext:
    """A run on simulated users up to its verifier, whose seed no setting was chosen on."""
    folder: Path = tmp_path_factory.mktemp("auc")
    ours = {
        "seed": 1,
        "threads": 1,
        "simulator": {"users": USERS, "items": ITEMS, "seed": 21, "interactions_per_user": ENCOUNTERS},
        "ranker": {"settings": {"Verifier": {"hidden_size": 128}}},
    }
    (folder / "case.yaml").write_text(yaml.safe_dump({"dataset": "simulated", "recgen": ours}))
    run = RunContext(load_config(str(folder / "case.yaml")), folder / "run")
    pipeline.execute(run, until="features")
    ranker.train(run, "verifier")
    return run


def test_verifier_comes_within_three_points_of_the_true_taste(trained):
    rows = ranker.held_out(trained, "Verifier")
    truth = Truth.load(trained.folder / "dataset/simulator")
    shown = truth.attributes_of(rows["item_id"].tolist())
    best = true_auc(truth, rows["user_id"].tolist(), shown, rows["like"].to_numpy())
    reached = json.loads((trained.folder / "ranker/verifier/training.json").read_text())["test"]["auc"]
    assert len(rows) > 0.09 * USERS * ENCOUNTERS
    assert best > 0.8
    assert reached > best - BAR, f"{reached} against the truth's {best}"
