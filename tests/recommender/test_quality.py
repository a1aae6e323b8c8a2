"""What a judge knows of what it was not trained on, against the same counted by hand from its scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from recgen import api
from recgen.config.loader import load_config
from recgen.pipeline.context import RunContext
from recgen.recommender import quality, recbole
from recgen.recommender.baselines import expected_metrics
from recgen.recommender.per_user import ranked_exactly
from recgen.recommender.splits import half
from recgen.stages.ranker import feedback_splits, held_out, load_ranker

BLIND = {"protocol": "blind", "items": 5, "per_item": 2}


@pytest.fixture(scope="module")
def ranking(tmp_path_factory, write_config) -> RunContext:
    """A run whose judge is a VBPR, which ranks."""
    return evaluated(tmp_path_factory.mktemp("ranks"), write_config, {"reward": "VBPR", "judge": "VBPR"})


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, write_config, tiny_clip) -> RunContext:
    """A run with two judges of likes and dislikes, which differ by their seeds alone."""
    judges = {"judge": "Verifier", "judge_encoder": [str(tiny_clip), str(tiny_clip)]}
    ranker = {"reward": "Verifier", **judges, "settings": {"Verifier": {"epochs": 3}}}
    return evaluated(tmp_path_factory.mktemp("labels"), write_config, ranker)


def evaluated(folder, write_config, ranker) -> RunContext:
    path = write_config(folder, requests=BLIND, ranker=ranker)
    api.run(str(path), str(folder / "run"), (), until="evaluate")
    return RunContext(load_config(str(path), ()), folder / "run")


def recorded(run: RunContext) -> list[dict]:
    return json.loads((run.folder / "metrics.json").read_text())["judges"]


def test_a_judge_that_ranks_is_measured_on_the_test_likes_among_what_a_user_has_not_met(ranking):
    """Candidates are those of the baselines: what the reward's half holds is none, although the judge has not seen it."""
    judge, table, items = load_ranker(ranking, "judge"), ranking.interactions, list(ranking.data.item_ids)
    likes = table[table["like"]]
    found = []
    for user, mine in likes.groupby("user_id"):
        test = np.isin(items, mine.loc[mine["split"] == "test", "item_id"])
        met = np.isin(items, mine.loc[mine["split"] != "test", "item_id"])
        if test.any():
            scores = judge.score_all([str(user)], items).numpy()[0]
            found.append(expected_metrics(scores[~met], test[~met], 10))
    (said,) = recorded(ranking)
    assert said["users"] == len(found) == 12 and said["encoder"] == ranking.settings.encoder
    assert (said["recall@10"], said["ndcg@10"]) == pytest.approx(np.mean(found, axis=0).tolist(), abs=1e-9)


def test_of_many_users_the_same_few_are_ranked_for_every_judge(ranking, monkeypatch):
    monkeypatch.setattr(quality, "TEST_USERS", 7)
    config = ranking.recbole_config("VBPR", ranked_exactly(ranking.recbole_keys("VBPR"), 10))
    model = load_ranker(ranking, "judge").model
    few = [quality.of_ranking(config, ranking.split, model) for _ in range(2)]
    assert few[0] == few[1] and few[0]["users"] == 7


def test_every_judge_of_likes_and_dislikes_has_an_auc_of_its_own(labelled):
    table = held_out(labelled, "Verifier")
    asked = table["user_id"].tolist(), table["item_id"].tolist()
    said = recorded(labelled)
    assert len(said) == 2 and said[0]["logloss"] != said[1]["logloss"]
    for member, each in enumerate(said):
        scores = load_ranker(labelled, "judge", member).score_original(*asked).numpy()
        assert each["auc"] == pytest.approx(roc_auc_score(table["like"], scores), abs=1e-4)
        assert (each["likes"], each["dislikes"]) == (table["like"].sum(), (~table["like"]).sum())


def test_popularity_is_what_the_judges_own_half_likes(labelled):
    parts = feedback_splits(labelled, "Verifier")
    learned = recbole.training_part(parts, half(labelled.settings.seed, parts, "judge", "label"))
    items, likes = learned.inter_feat["item_id"].tolist(), learned.inter_feat["label"].tolist()
    mean, test = sum(likes) / len(likes), parts.test.inter_feat
    rates = {}
    for item in test["item_id"].tolist():
        own = [like for other, like in zip(items, likes, strict=True) if other == item]
        rates[item] = (sum(own) + mean) / (len(own) + 1)
    scores = [rates[item] for item in test["item_id"].tolist()]
    for each in recorded(labelled):
        assert each["popularity_auc"] == pytest.approx(roc_auc_score(test["label"].numpy(), scores))
