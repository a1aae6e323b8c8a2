"""The market of a small simulated run, with a generator that knows what its users like."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

import recgen
from recgen.cli import recgen as cli
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.data.click_log import read_log
from recgen.data.simulation.simulator import Truth
from recgen.pipeline.context import RunContext
from recgen.stages.market_training import LogTrainer, candidates

MARKET = {"users": 16, "candidates": 14, "places": 5, "rounds": 2, "pages": 2, "seeds": 1}


@pytest.fixture(scope="module")
def config(market_config, tmp_path_factory):
    return market_config(tmp_path_factory.mktemp("market"))


@pytest.fixture(scope="module")
def folder(config):
    return recgen.run(config, config.parent / "run").folder


@pytest.fixture(scope="module")
def played(folder):
    """What came of the market; drawn.txt then names the creatives that were drawn for it."""
    (folder.parent / "drawn.txt").unlink()
    return recgen.open(folder).market(**MARKET)


def test_own_creatives_gain_clicks_that_other_users_do_not(played):
    ab = played["effects"]["1"]["ab"]
    assert list(ab) == ["original", "constant", "ideal", "swapped.ideal"]
    gain = {arm: ab[arm]["uplift"] for arm in ab if arm != "original"}
    assert gain["ideal"]["low"] > 0 and gain["ideal"]["p_holm"] < 0.01
    assert gain["ideal"]["difference"] > gain["swapped.ideal"]["difference"]
    for arm, row in ab.items():
        assert row["clicks"]["value"] == pytest.approx(row["expected"], rel=0.25), arm
        assert row["pages"] == 16 * 2 * 2


def test_without_an_effect_no_arm_is_expected_to_gain(played):
    expected = [row["expected"] for row in played["effects"]["0"]["ab"].values()]
    assert np.allclose(expected, expected[0])


def test_the_log_is_of_the_format_that_serving_writes(folder, played):
    log = read_log(folder / "market/log.parquet")
    ab = log[(log["world"] == "A/B") & (log["effect"] == 1)]
    assert set(ab["arm"]) == set(played["market"]["arms"]) and (ab["propensity"] == 0.25).all()
    assert (log.loc[log["world"] == "ideal", "propensity"] == 1).all()
    drawn = ab[ab["arm"].isin(["ideal", "swapped.ideal"])]
    assert all((folder / path).is_file() for path in drawn["picture"])
    assert (ab.loc[ab["arm"] == "original", "picture"] == "").all()
    for arm, row in played["effects"]["1"]["values"].items():
        rate = ab.loc[ab["arm"] == arm, "click"].mean()
        for estimator in ("ips", "snips", "replay"):
            assert row[estimator]["value"] == pytest.approx(rate), "every arm has the same number of pages"


def test_pages_hold_what_the_user_has_not_met(folder, played):
    known = pd.read_parquet(folder / "dataset/interactions.parquet")
    met = set(zip(known["user_id"], known["item_id"], strict=True))
    log = read_log(folder / "market/log.parquet")
    assert not met & set(zip(log["user_id"], log["item_id"], strict=True))
    assert not log.duplicated(["page_id", "item_id"]).any()


def test_a_creative_is_drawn_once_whatever_the_round_and_the_world(folder, played):
    lines = (folder.parent / "drawn.txt").read_text().split("\n")[:-1]
    assert len(lines) == len(set(lines)) <= 16 * 14
    log = read_log(folder / "market/log.parquet")
    shown = log[log["arm"].isin(["ideal", "swapped.ideal"])]
    assert shown["picture"].nunique() == len(lines)
    own = log[log["arm"] == "ideal"].groupby(["user_id", "item_id"])["picture"].nunique()
    assert (own == 1).all()
    pair = log[log["arm"].str.contains("ideal")].groupby("picture")["item_id"].nunique()
    assert (pair == 1).all(), "another user's creative is of the same item"


def test_swapped_creatives_are_those_of_one_other_user(folder, played):
    log = read_log(folder / "market/log.parquet")
    users = sorted(log["user_id"].unique())
    whose_file = {(made_for(user, item), item): user for user in users for item in log["item_id"].unique()}
    drawn = log[log["arm"].isin(["ideal", "swapped.ideal"])]
    whose = [whose_file[Path(row.picture).stem, row.item_id] for row in drawn.itertuples()]
    own = drawn.assign(whose=whose)
    assert (own["whose"] == own["user_id"])[own["arm"] == "ideal"].all()
    donors = own[own["arm"] == "swapped.ideal"].groupby("user_id")["whose"].unique()
    assert all(len(each) == 1 for each in donors), "always the same"
    assert all(each[0] != user for user, each in donors.items())
    assert donors.str[0].is_unique


def made_for(user: str, item: str) -> str:
    """Return the name of the file of a creative."""
    return hashlib.blake2b(f"{user}\x1f{item}".encode(), digest_size=12).hexdigest()


def test_again_nothing_is_played_and_a_lost_world_is_played_again_alike(folder, played):
    before = {path.name: path.read_bytes() for path in (folder / "market").glob("*.*")}
    drawn = (folder.parent / "drawn.txt").read_text()
    assert recgen.open(folder).market() == played, "the run's configuration remembers its market"
    (folder / "market/worlds/00003.log.parquet").unlink()
    (folder / "market/summary.json").unlink()
    assert recgen.open(folder).market(**MARKET) == played
    assert {path.name: path.read_bytes() for path in (folder / "market").glob("*.*")} == before
    assert (folder.parent / "drawn.txt").read_text() == drawn


def test_other_settings_play_anew_with_the_creatives_that_are_there(folder, played, tmp_path):
    shutil.copytree(folder, tmp_path / "run", copy_function=shutil.copy2)
    before = len((folder.parent / "drawn.txt").read_text().split("\n"))
    found = recgen.open(tmp_path / "run").market(
        **{**MARKET, "rounds": 1, "negative_control": False, "click_model": "cascade"}
    )
    assert list(found["effects"]) == ["1"] and found["market"]["rounds"] == 1
    log = read_log(tmp_path / "run/market/log.parquet")
    assert log.groupby("page_id")["click"].sum().max() == 1
    lines = (folder.parent / "drawn.txt").read_text().split("\n")[:-1]
    assert len(lines) == len(set(lines)) < before + 60, "what the first market has drawn is not drawn again"


def test_the_report_shows_the_market(folder, played):
    page = (folder / "report.html").read_text()
    assert 'id="market"' in page and "Clicks per 1,000 pages" in page
    assert str(round(played["effects"]["1"]["ab"]["ideal"]["uplift"]["difference"])) in page.replace(",", "")


def test_the_command_prints_what_came_of_it(folder, played):
    result = CliRunner().invoke(
        cli, ["market", "--run", str(folder), "--rounds", "2"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    row = next(line for line in result.output.splitlines() if line.startswith("ideal"))
    assert str(round(played["effects"]["1"]["ab"]["ideal"]["clicks"]["value"])) in row


def test_a_run_over_real_users_is_refused_before_anything_starts(config, tmp_path):
    values = yaml.safe_load(config.read_text())
    values["recgen"].pop("simulator")
    values["recgen"]["images"] = "images"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match="a simulated one, whose users can open pages and click"):
        recgen.open(tmp_path).market()
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"candidates": 4}, "at least as many candidates as places"),
        ({"generators": ["nobody"]}, "generators of the run: ideal"),
        ({"model": "NoSuchModel"}, "NoSuchModel"),
        ({"users": 1}, "users"),
        ({"candidates": 80, "places": 50}, "items that they have not met"),
        ({"click_model": "psychic"}, "click_model"),
    ],
)
def test_mistakes(folder, played, settings, said, tmp_path):
    shutil.copytree(folder, tmp_path / "run", copy_function=shutil.copy2)
    with pytest.raises(UserError, match=said):
        recgen.open(tmp_path / "run").market(**settings)


@pytest.fixture(scope="module")
def context(folder, played):
    return RunContext(load_config(str(folder / "config.yaml")), folder)


@pytest.mark.parametrize("model", ["VBPR", "Verifier", "LightGCN"])
def test_any_ranking_model_learns_from_the_log(context, model):
    """Every user clicks the last three candidates: after the log they stand higher, and held-out likes are measured."""
    market = context.settings.market.model_copy(update={"model": model})
    run = RunContext(context.config, context.folder)
    run.settings = context.settings.model_copy(
        update={
            "market": market,
            "downstream": context.settings.downstream.model_copy(
                update={"settings": {"epochs": 30, "learning_rate": 0.01}}
            ),
        }
    )
    shown = candidates(run)
    train = LogTrainer(run, 0, shown)
    wanted = {user: items[-3:] for user, items in shown.items()}
    rows = [
        (user, item, f"{user}{place}", place, item in wanted[user])
        for user, items in shown.items()
        for place, item in enumerate(items, start=1)
    ]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "page", "position", "click"]).assign(
        page_id=lambda t: t["user_id"]
    )
    before, after = train(pd.DataFrame()), train(log)
    assert train(pd.DataFrame()) is before, "the training without a log is done once"

    def place(recommender):
        ranked = recommender.rank(list(shown), shown)
        return np.mean([ranked[user].index(item) for user in shown for item in wanted[user]])

    assert place(after) < place(before) - 2
    quality = after.quality(list(shown))
    assert set(quality["user_id"]) == set(shown) and quality["recall@10"].between(0, 1).all()


def test_held_out_likes_are_no_candidates_and_candidates_do_not_take_part_in_measuring(context):
    shown = candidates(context)
    table = context.interactions
    test = table[(table["split"] == "test") & table["like"]]
    assert not any(
        item in shown[user]
        for user, item in zip(test["user_id"], test["item_id"], strict=True)
        if user in shown
    )
    trainer = LogTrainer(context, 0, shown)
    relevant, out = trainer._measured
    assert all(set(shown[user]) <= set(out[user]) for user in relevant)


def test_the_truth_of_an_effect_of_one_is_the_simulators(folder, played):
    truth = Truth.load(folder / "dataset/simulator")
    log = read_log(folder / "market/log.parquet")
    own = log[(log["world"] == "A/B") & (log["effect"] == 1) & (log["arm"] == "original")]
    likes = truth.probability(own["user_id"].tolist(), truth.attributes_of(own["item_id"].tolist()))
    assert np.allclose(own["expected"], likes / own["position"])


def test_summary_is_json_that_any_program_reads(folder, played):
    assert json.loads((folder / "market/summary.json").read_text()) == played
