"""A budget of images in a small simulated run."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import recgen
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.stages import budget


@pytest.fixture(scope="module")
def folder(market_config, tmp_path_factory):
    base = tmp_path_factory.mktemp("budget")
    simulated = {"users": 60, "items": 80, "seed": 1, "interactions_per_user": 60}
    config = market_config(
        base, requests={"protocol": "blind", "items": 6, "per_item": 6}, simulator=simulated, budget={"images": 12},
        ranker={"reward": "Verifier", "judge": "Verifier"}, gate={"models": []}, controls=["original", "swapped"],
    )  # fmt: skip
    return recgen.run(config, base / "run").folder


def again(folder, *changes):
    run = RunContext(load_config(str(folder / "config.yaml"), changes), folder)
    with run.workspace.lock():
        return run, pipeline.execute(run, until="generate")


def test_the_most_worth_is_drawn_and_no_more(folder):
    table = pd.read_parquet(folder / "creatives/budget.parquet")
    assert len(table) == 36 and table["chosen"].sum() == 12
    worth = table["gain"] * table["traffic"]
    assert worth[table["chosen"]].min() >= worth[~table["chosen"]].max()
    wanted = set(table.loc[table["chosen"], "image"])
    manifest = pd.read_parquet(folder / "creatives/manifest.parquet")
    assert set(manifest["user_id"] + "\x1f" + manifest["item_id"]) == wanted and len(manifest) == 12
    assert len(pd.read_parquet(folder / "per_request.parquet")) == 12
    assert len(pd.read_parquet(folder / "evaluation/control.original.parquet")) == 12


def test_what_is_predicted_says_something_of_the_truth(folder):
    """Over all that was asked for, drawn without a budget beside it: images predicted to gain more truly gain more."""
    run, done = again(folder, "recgen.budget.images=null")
    assert "generate/ideal" in done
    with run.workspace.lock():
        pipeline.execute(run, until="evaluate")
    table = pd.read_parquet(folder / "creatives/budget.parquet")
    truth = pd.read_parquet(folder / "evaluation/ideal.parquet").merge(table, on=["user_id", "item_id"])
    assert len(truth) == 36
    rng = np.random.default_rng(0)
    found = np.corrcoef(truth["gain"], truth["true_utility_gain"])[0, 1]
    at_random = [
        np.corrcoef(rng.permutation(truth["gain"]), truth["true_utility_gain"])[0, 1] for _ in range(200)
    ]
    assert found > np.quantile(at_random, 0.99)
    curve = json.loads((folder / "metrics.json").read_text())["budget"]
    assert curve["asked"] == 36 and curve["generators"]["ideal"]["images"] == 36
    assert curve["generators"]["ideal"]["earned"][4] > curve["generators"]["ideal"]["random"][4]


def test_traffic_of_ones_own(folder, tmp_path):
    table = pd.read_parquet(folder / "creatives/budget.parquet")
    item = table.sort_values("gain")["item_id"].iloc[-1]
    pd.DataFrame({"item_id": [item], "views": [1000]}).to_csv(tmp_path / "views.csv", index=False)
    told = [f"recgen.budget={{images: 3, traffic: {tmp_path / 'views.csv'}}}"]
    again(folder, *told)
    drawn = pd.read_parquet(folder / "creatives/manifest.parquet")
    found = pd.read_parquet(folder / "creatives/budget.parquet")
    assert set(drawn["item_id"]) == {item} and len(drawn) == 3
    assert (found.loc[found["item_id"] != item, "traffic"] == 0).all()
    for text, says in (
        (
            "item_id,views\ni1,3\ni2,-2\n",
            r"views.csv, row 3, views: found .*-2.*; expected a number from 0 up",
        ),
        ("item_id,views\ni1,inf\n", r"views.csv, row 2, views: found .*inf"),
        ("item_id,times\ni1,2\n", r"views.csv: found no column 'views'"),
        ("", r"views.csv: found EmptyDataError.*; expected a CSV or Parquet table"),
    ):
        (tmp_path / "views.csv").write_text(text)
        with pytest.raises(UserError, match=says):
            again(folder, *told)


def test_views_that_are_texts_are_numbers_all_the_same(folder, tmp_path):
    run = RunContext(load_config(str(folder / "config.yaml")), folder)
    item = run.asked_for[0].item_id
    table = pd.DataFrame({"item_id": [item, item], "views": ["5", "7"]})
    table.to_parquet(tmp_path / "views.parquet")
    found = budget._given(tmp_path / "views.parquet", run.asked_for, "here")
    assert found[0] == 12 and set(found) == {0.0, 12.0}


def test_the_report_says_what_was_drawn(folder):
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert (
        "ask for 36 different images, of which each generator drew 12" in page and 'id="budget-table"' in page
    )
