"""Users who share creatives: who belongs together, what is drawn, and who is shown it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import recgen
from recgen.config.loader import load_config
from recgen.data.simulation.simulator import Truth
from recgen.export import export
from recgen.pipeline.context import RunContext
from recgen.stages import groups

ASKED = {"protocol": "blind", "items": 5, "per_item": 8, "per": "group", "groups": 4, "compare": 6}


@pytest.fixture(scope="module")
def folder(market_config, tmp_path_factory):
    base = tmp_path_factory.mktemp("groups")
    simulated = {"users": 60, "items": 80, "seed": 1, "interactions_per_user": 60}
    rankers = {"reward": "Verifier", "judge": "Verifier"}
    config = market_config(base, requests=ASKED, simulator=simulated, ranker=rankers, gate={"models": []})
    return recgen.run(config, base / "run", until="evaluate").folder


@pytest.fixture(scope="module")
def table(folder):
    return pd.read_parquet(folder / "creatives/groups.parquet").set_index("user_id")


def drawn_for(folder, name="ideal"):
    tables = sorted((folder / f"creatives/shards/{name}").glob("*.parquet"))
    rows = pd.concat([pd.read_parquet(path) for path in tables])
    return list(zip(rows["user_id"], rows["item_id"], strict=True))


def test_everybody_has_a_group_whose_member_represents_it(table):
    assert len(table) == 60 and table["group"].nunique() == 4
    for _, members in table.groupby("group"):
        (representative,) = members["representative"].unique()
        assert representative in members.index


def test_the_representative_is_the_member_nearest_to_the_mean(folder, table):
    run = RunContext(load_config(str(folder / "config.yaml")), folder)
    points = pd.DataFrame(groups.read_tastes(run), index=run.data.user_ids)
    for _, members in table.groupby("group"):
        mine = points.loc[members.index]
        distance = np.square(mine - mine.mean()).sum(axis=1)
        assert distance[members["representative"].iloc[0]] == pytest.approx(distance.min(), rel=1e-3)


def test_who_belongs_together_likes_the_same_looks(folder, table):
    """True tastes in style are nearer within groups than between users dealt to groups of the same sizes at random."""
    truth = Truth.load(folder / "dataset/simulator")
    style = truth.style[:, 0] - truth.style[:, 0].mean(axis=0)
    labels = table.loc[truth.user_ids, "group"].to_numpy()

    def within(of):
        return sum(
            ((style[of == each] - style[of == each].mean(axis=0)) ** 2).sum() for each in np.unique(of)
        )

    rng = np.random.default_rng(0)
    at_random = [within(rng.permutation(labels)) for _ in range(200)]
    assert within(labels) < np.quantile(at_random, 0.01)


def test_an_image_is_drawn_once_for_a_group_and_an_item(folder, table):
    asked = pd.read_parquet(folder / "dataset/requests.parquet")
    wanted = dict.fromkeys(zip(table.loc[asked["user_id"], "representative"], asked["item_id"], strict=True))
    assert drawn_for(folder) == list(wanted) and len(wanted) < len(asked) == 40
    record = (folder.parent / "drawn.txt").read_text().split("\n")[:-1]
    assert len(set(record)) == len(record), "nothing is drawn twice"


def test_what_sharing_costs_is_measured_with_the_same_requests(folder, table):
    found = json.loads((folder / "metrics.json").read_text())["sharing"]["ideal"]
    curve = found["curve"]
    assert [each["groups"] for each in curve] == [None, 4, 1] and found["requests"] == 6
    asked = pd.read_parquet(folder / "dataset/requests.parquet")
    assert [each["images"] for each in curve] == [40, len(drawn_for(folder)), asked["item_id"].nunique()]
    rows = pd.read_parquet(folder / "groups/ideal.parquet")
    assert (rows.groupby("level").size() == 6).all() and (
        rows.groupby(["user_id", "item_id"]).size() == 3
    ).all()
    gain = rows.set_index("level")["true_utility_gain"]
    assert gain[0].mean() > gain[1].mean(), "the generator draws what its user likes best"
    for level in curve[1:]:
        lost = level["lost"]["true_utility_gain"]
        assert lost["difference"] == pytest.approx(gain[0].mean() - gain[level["groups"]].mean())


def test_every_user_is_shown_the_groups_creative(folder, table):
    manifest = pd.read_parquet(folder / "creatives/manifest.parquet")
    asked = pd.read_parquet(folder / "dataset/requests.parquet")
    assert (
        manifest[["user_id", "item_id"]].to_numpy().tolist()
        == asked[["user_id", "item_id"]].to_numpy().tolist()
    )
    recipes = manifest["recipe"].map(json.loads)
    assert recipes.str["user"].tolist() == table.loc[manifest["user_id"], "representative"].tolist()
    assert recipes.str["item"].tolist() == manifest["item_id"].tolist()
    embeddings = recgen.open(folder).context.data
    gate = pd.read_parquet(folder / "gate/ideal.parquet")
    assert gate["path"].tolist() == manifest["path"].tolist() and len(embeddings.user_ids) == 60


def test_swapped_is_another_groups_creative(folder, table):
    run = RunContext(load_config(str(folder / "config.yaml")), folder)
    from recgen.stages.generate import creatives

    own, other = (
        creatives(run, name)[0].set_index(["user_id", "item_id"]) for name in ("ideal", "swapped.ideal")
    )
    assert len(other) == 40
    assert (other["path"] != own.loc[other.index, "path"]).all()


def test_the_export_has_a_row_for_every_user(folder, tmp_path):
    export(str(folder), str(tmp_path), "shop", images=True, everything=True)
    manifest = pd.read_csv(tmp_path / "shop/creatives/manifest.csv", dtype=str)
    assert len(manifest) == 40 and manifest["path"].nunique() == len(drawn_for(folder))
