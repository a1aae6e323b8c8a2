"""A model of likes and dislikes as reward and judge: what each may learn from, and a run to its end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.recommender.splits import half
from recgen.stages import ranker
from recgen.stages.ranker import feedback_splits, load_ranker


def opened(config: Path, folder: Path, *overrides: str) -> RunContext:
    return RunContext(load_config(str(config), overrides), folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, write_config) -> RunContext:
    """A run whose reward and judge are Verifiers, done to its end."""
    folder = tmp_path_factory.mktemp("labelled")
    config = write_config(folder, ranker={"reward": "Verifier", "judge": "Verifier"})
    run = opened(config, folder / "run")
    pipeline.execute(run)
    return opened(config, folder / "run")


def pairs(rows) -> set[tuple[int, int]]:
    return set(zip(rows["user_id"].tolist(), rows["item_id"].tolist(), strict=True))


def test_reward_and_judge_learn_from_disjoint_halves_of_likes_and_of_dislikes(finished):
    parts = feedback_splits(finished, "Verifier")
    train = parts.train.inter_feat
    for role in ("reward", "judge"):
        numbers = load_ranker(finished, role).dataset.field2token_id
        assert numbers == parts.whole.field2token_id, "one catalogue and one numbering"
    reward, judge = (half(finished.settings.seed, parts, role, "label") for role in ("reward", "judge"))
    assert (reward != judge).all()
    user, like = train["user_id"].numpy(), train["label"].numpy()
    assert set(like.tolist()) == {0.0, 1.0}
    for label in (0, 1):
        for one in set(user.tolist()):
            mine = (user == one) & (like == label)
            assert abs(int(reward[mine].sum()) - int(judge[mine].sum())) <= 1
    for role, side in (("reward", reward), ("judge", judge)):
        model = load_ranker(finished, role).model
        learned = {(u, i) for u in set(user.tolist()) for i in items_of(model, u)}
        assert learned == {(u, i) for u, i in zip(user[side], train["item_id"].numpy()[side], strict=True)}


def items_of(model, user: int) -> list[int]:
    return model.history_items[model.history_starts[user] : model.history_starts[user + 1]].tolist()


def test_split_is_the_same_for_every_role_and_no_reference_is_in_it(finished):
    parts = feedback_splits(finished, "Verifier")
    finished.clear_cache()
    again = feedback_splits(finished, "Verifier")
    for name in ("train", "valid", "test"):
        assert pairs(getattr(parts, name).inter_feat) == pairs(getattr(again, name).inter_feat)
    known = {
        (str(parts.whole.id2token("user_id", u)), str(parts.whole.id2token("item_id", i)))
        for u, i in pairs(parts.whole.inter_feat)
    }
    assert not known & {(request.user_id, request.item_id) for request in finished.requests}


def test_held_out_results_of_each_model_are_on_record(finished):
    for role in ("reward", "judge", "verifier"):
        record = json.loads((finished.folder / f"ranker/{role}/training.json").read_text())
        assert 0 <= record["test"]["auc"] <= 1 and record["test"]["logloss"] > 0


def test_scores_are_logits_and_the_verifiers_metric_a_probability(finished):
    ranker, users = load_ranker(finished, "judge"), [request.user_id for request in finished.requests]
    items = [request.item_id for request in finished.requests]
    images = finished.data.image_features[[finished.data.item_rows[item] for item in items]]
    scores = ranker.score(users, items, images)
    model, (user, item) = ranker.model, ranker.ids(users, items)
    np.testing.assert_allclose(scores, model.logits(user, model.features("image")[item]).detach(), atol=1e-5)
    np.testing.assert_allclose(scores, ranker.score_original(users, items), atol=1e-5)
    assert (scores < 0).any() or (scores > 1).any()
    table = pd.read_parquet(finished.folder / "evaluation/toy.parquet")
    assert table["verifier_score"].between(0, 1).all()


def test_downstream_ranks_all_items_by_the_retrained_model(finished):
    metrics = json.loads((finished.folder / "metrics.json").read_text())
    for source in ("ORI", "toy"):
        assert 0 <= metrics["downstream"][source]["recall@10"]["value"] <= 1
    assert recall_by_hand(finished) == pytest.approx(recorded(finished, "recall@10"))


def recorded(run: RunContext, metric: str) -> float:
    return json.loads((run.folder / "downstream/ORI/0/results.json").read_text())[metric]


def recall_by_hand(run: RunContext) -> float:
    """Recall@10 of the model retrained on the original images, from its parameters and the run's tables alone."""
    from recgen.stages.downstream import trained_model

    model, whole = trained_model(run, "ORI", 0).model, feedback_splits(run, "Verifier").whole
    likes = run.interactions[run.interactions["like"]]
    found = []
    for user, mine in likes.groupby("user_id"):
        phi = model.user(np_to_id(whole, "user_id", [user]))
        scores = (phi @ model.image(model.features("image")).T)[0].detach().numpy()
        scores[0] = -np.inf
        scores[np_to_id(whole, "item_id", mine["item_id"][mine["split"] != "test"])] = -np.inf
        best = set(np.argsort(-scores)[:10].tolist())
        wanted = np_to_id(whole, "item_id", mine["item_id"][mine["split"] == "test"]).tolist()
        found.append(len(best & set(wanted)) / len(wanted))
    return float(np.mean(found))


def np_to_id(whole, field: str, tokens):
    import torch

    return torch.as_tensor(whole.token2id(field, np.asarray(tokens, dtype=object)))


def test_same_judge_trains_one_model_on_everything(write_config, tmp_path):
    ranker = {"reward": "Verifier", "judge": "Verifier", "same_judge": True}
    run = opened(write_config(tmp_path, ranker=ranker), tmp_path / "run")
    pipeline.execute(run, until="ranker")
    assert sorted(path.name for path in (tmp_path / "run/ranker").iterdir()) == ["judge", "verifier"]
    reward, parts = load_ranker(run, "reward"), feedback_splits(run, "Verifier")
    assert len(reward.model.history_items) == len(parts.train.inter_feat)


def test_a_model_that_ranks_cannot_be_the_verifier(write_config, tmp_path):
    run = opened(write_config(tmp_path, ranker={"verifier": "MICRO"}), tmp_path / "run")
    with pytest.raises(UserError, match=r"recgen\.ranker\.verifier.*MICRO"):
        pipeline.execute(run, until="ranker")


def test_roles_may_be_of_different_kinds(write_config, tmp_path):
    """A reward that ranks beside a judge of likes and dislikes: each answers in the same tokens."""
    run = opened(write_config(tmp_path, ranker={"reward": "VBPR", "judge": "Verifier"}), tmp_path / "run")
    pipeline.execute(run, until="evaluate")
    measured = json.loads((tmp_path / "run/metrics.json").read_text())["creatives"]["toy"]
    assert measured["delta_r_reward"]["n"] == measured["delta_r_judge"]["n"] == len(run.requests)


def test_a_trained_model_is_read_once_until_it_is_trained_anew(finished, monkeypatch):
    finished.clear_cache()
    first = load_ranker(finished, "reward")
    assert load_ranker(finished, "reward") is first and load_ranker(finished, "verifier") is not first
    ranker.train(finished, "reward")
    again = load_ranker(finished, "reward")
    assert again is not first
    for name, values in first.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], values)
    monkeypatch.setattr(ranker, "_KEPT", 1)
    finished.clear_cache()
    assert load_ranker(finished, "reward") is not load_ranker(finished, "reward"), "a large one is let go of"
