"""Encounters that no ranking model was trained on, which `taste` weighs its sources by."""

from __future__ import annotations

from pathlib import Path

import pytest

from recgen.config.loader import load_config
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.stages.ranker import feedback_splits, reward_model


def prepared(folder: Path, write_config, **ranker: str) -> RunContext:
    config = write_config(folder, ranker=ranker)
    pipeline.execute(RunContext(load_config(str(config)), folder / "run"), "features")
    return RunContext(load_config(str(config)), folder / "run")


@pytest.fixture(scope="module")
def of_labels(tmp_path_factory, write_config) -> RunContext:
    return prepared(tmp_path_factory.mktemp("labels"), write_config, reward="Verifier", judge="Verifier")


@pytest.fixture(scope="module")
def of_likes(tmp_path_factory, write_config) -> RunContext:
    return prepared(tmp_path_factory.mktemp("likes"), write_config)


def pairs(table) -> set[tuple[str, str]]:
    return set(zip(table["user_id"], table["item_id"], strict=True))


def references(run: RunContext) -> set[tuple[str, str]]:
    return {(request.user_id, request.item_id) for request in run.requests}


def test_a_model_of_labels_was_trained_on_none_of_them(of_labels) -> None:
    table = reward_model(of_labels, "reward").unseen()
    parts = feedback_splits(of_labels, "Verifier")
    rows = parts.train.inter_feat
    trained = {
        (str(parts.whole.id2token("user_id", user)), str(parts.whole.id2token("item_id", item)))
        for user, item in zip(rows["user_id"].tolist(), rows["item_id"].tolist(), strict=True)
    }
    assert len(table) and not pairs(table) & trained and not pairs(table) & references(of_labels)
    known = of_labels.interactions[of_labels.interactions["split"] != "test"]
    assert pairs(table) | trained == pairs(known)
    likes = known.set_index(["user_id", "item_id"])["like"]
    assert all(likes[(row.user_id, row.item_id)] == row.like for row in table.itertuples())


def test_of_a_model_of_likes_they_are_validation_likes_and_as_many_dislikes(of_likes) -> None:
    table = reward_model(of_likes, "reward").unseen()
    known = of_likes.interactions
    valid = known[(known["split"] == "valid") & known["like"]]
    assert pairs(table[table["like"]]) == pairs(valid) and len(valid)
    dislikes = table[~table["like"]]
    assert pairs(dislikes) <= pairs(known[~known["like"]])
    assert dislikes.groupby("user_id").size().to_dict() == valid.groupby("user_id").size().to_dict()
    assert not pairs(table) & references(of_likes)


def test_where_nobody_dislikes_anything_they_are_likes_and_items_not_met(of_likes) -> None:
    run = RunContext(of_likes.config, of_likes.folder)
    run.__dict__["interactions"] = run.interactions[run.interactions["like"]]
    table = reward_model(run, "reward").unseen()
    assert 0.3 < table["like"].mean() < 0.7
    known = run.interactions[run.interactions["split"] != "test"]
    assert not pairs(table[~table["like"]]) & pairs(
        known
    )  # a reference may be drawn: leaving it out would tell which it is
    again = RunContext(of_likes.config, of_likes.folder)
    again.__dict__["interactions"] = run.interactions
    assert reward_model(again, "reward").unseen().equals(table)
