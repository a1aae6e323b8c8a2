"""Our models under RecBole's switches, and RecBole's own under our pins."""

from __future__ import annotations

import math

import pytest
import torch

from recgen.core.compat import prepare_recbole_graphs, recbole_checkpoints
from recgen.core.errors import UserError

DYNAMIC = {
    "train_neg_sample_args": {
        "distribution": "uniform",
        "sample_num": 1,
        "alpha": 1.0,
        "dynamic": True,
        "candidate_num": 3,
    }
}
MICRO = {"embedding_size": 8, "knn_k": 4}
BLIND = {"item_features": None, "embedding_size": 8, "epochs": 3}


def fitted(built, **options):
    trainer = built.trainer()
    trainer.fit(built.train, built.valid, verbose=False, **{"saved": False, **options})
    return trainer


LIKES = {"threshold": {"rating": 4}, "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "mode": "labeled"}}


@pytest.mark.parametrize(
    ("model", "settings"),
    [("MICRO", {}), ("VBPR", {}), ("Verifier", {**LIKES, "metrics": ["AUC"], "valid_metric": "AUC"})],
)
def test_mixed_precision_on_a_cpu_learns_as_full_precision_does(model, settings, build):
    losses = [
        fitted(build(model, epochs=2, embedding_size=8, enable_amp=amp, **settings)).history[-1]["losses"][0]
        for amp in (False, True)
    ]
    assert math.isfinite(losses[1]) and losses[1] == pytest.approx(losses[0], rel=0.02)


def test_dynamic_negatives_rebuild_the_learned_graph_once_an_epoch(build, monkeypatch):
    built = build("MICRO", **MICRO, **DYNAMIC, epochs=3, eval_step=0, train_batch_size=16)
    assert len(built.train) > 4
    rebuilt, neighbours = [], built.model._item_graph_with_gradient
    monkeypatch.setattr(
        built.model, "_item_graph_with_gradient", lambda m: rebuilt.append(m) or neighbours(m)
    )
    searched, search = [], built.model.learned_neighbours
    monkeypatch.setattr(built.model, "learned_neighbours", lambda m: searched.append(m) or search(m))
    fitted(built)
    assert len(rebuilt) == 3 * 2, "epochs x modalities"
    assert len(searched) == 2 * len(rebuilt), "and once without gradient, for the first batch's negatives"


def test_evaluation_after_an_epoch_has_fresh_graphs(build):
    built = build("MICRO", **MICRO, epochs=1)
    fitted(built)
    users, items = built.model.final()
    fresh = build("MICRO", **MICRO, epochs=1).model
    fresh.load_state_dict(built.model.state_dict())
    for one, other in zip((users, items), fresh.eval().final(), strict=True):
        torch.testing.assert_close(one, other)


def test_dynamic_negatives_and_users_batches_exclude_each_other(build):
    with pytest.raises(UserError, match="dynamic negatives with sampling: users"):
        build("MICRO", **MICRO, **DYNAMIC, sampling="users").trainer()


def test_resuming_keeps_the_best_epoch_if_none_is_better(build):
    """Further epochs at a learning rate of 1,000 ruin the model; what it held when it was saved stays the best."""
    built = build("VBPR", embedding_size=8, epochs=2)
    first = fitted(built, saved=True)
    best = {name: value.clone() for name, value in built.model.state_dict().items()}
    again = build("VBPR", embedding_size=8, epochs=6, learning_rate=1000.0)
    trainer = again.trainer()
    trainer.resume_checkpoint(first.saved_model_file)
    start = trainer.start_epoch
    trainer.best_valid_score = 2.0  # above what a recall can be
    trainer.fit(again.train, again.valid, verbose=False, saved=False)
    assert start > 0 and len(trainer.history) > 0
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, best[name]), name


@pytest.mark.parametrize("model", ["LightGCN", "NGCF", "SGL"])
def test_recboles_graph_models_train_and_keep_their_best_epoch(model, build):
    """LightGCN caches embeddings outside its state dict: they must be the best epoch's too."""
    from ranking_models.trainer import RankingTrainer

    prepare_recbole_graphs()
    built = build(model, **BLIND, learning_rate=0.3, eval_step=1)
    trainer = RankingTrainer(built.config, built.model)
    trainer.fit(built.train, built.valid, verbose=False, saved=False)
    best = max(epoch["valid"]["ndcg@10"] for epoch in trainer.history)
    again = trainer.evaluate(built.valid, load_best_model=False)
    chosen = max(trainer.history, key=lambda epoch: epoch["valid"]["mrr@10"])
    assert best > 0 and again["mrr@10"] == chosen["valid"]["mrr@10"]


def test_recboles_checkpoints_can_be_read_and_ours_say_how(build):
    pytest.importorskip("ray")
    from recbole.quick_start import load_data_and_model

    built = build("BPR", **BLIND)
    saved = fitted(built, saved=True).saved_model_file
    with recbole_checkpoints():
        model, stored = load_data_and_model(str(saved))[1], torch.load(saved)["state_dict"]
    assert torch.equal(model.user_embedding.weight, stored["user_embedding.weight"])
    ours = fitted(build("VBPR", embedding_size=8, epochs=1), saved=True).saved_model_file
    with recbole_checkpoints(), pytest.raises(UserError, match=r"ranking_models\.checkpoint\.load"):
        load_data_and_model(ours)
    assert torch.load.__module__ == "torch.serialization"
