"""Training under RecBole: checkpoints without pickle, the best epoch, the sampling switch, wide evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.trainer import Trainer
from recbole.utils import init_seed
from safetensors.torch import load_file

from ranking_models.checkpoint import load, save
from ranking_models.sampling import UserUniformBatches
from ranking_models.trainer import in_wide_steps
from recgen.core.errors import UserError

SMALL = {"embedding_size": 8, "knn_k": 4, "train_batch_size": 64, "learning_rate": 0.02, "eval_step": 1}


def test_saved_and_loaded_model_scores_the_same_and_saves_the_same_bytes(build, tmp_path):
    first, second = build(**SMALL, epochs=2), build(**SMALL, seed=99)
    first.trainer().fit(first.train, saved=False, verbose=False)
    save(first.model, tmp_path / "a")
    load(second.model, tmp_path / "a")
    for mine, theirs in zip(first.model.eval().final(), second.model.eval().final(), strict=True):
        assert torch.equal(mine, theirs)
    save(second.model, tmp_path / "b")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert not any(name.startswith("features") for name in load_file(tmp_path / "a" / "model.safetensors"))


def test_loading_onto_other_features_or_settings_is_refused(build, tmp_path):
    save(build(**SMALL).model, tmp_path / "a")
    with pytest.raises(UserError, match="settings"):
        load(build(**{**SMALL, "knn_k": 5}).model, tmp_path / "a")
    other = build(**SMALL)
    other.model.identity["features"]["image"] = "another"
    with pytest.raises(UserError, match="features"):
        load(other.model, tmp_path / "a")
    with pytest.raises(UserError, match="no such file"):
        load(other.model, tmp_path / "nowhere")


@pytest.mark.parametrize("saved", [True, False])
def test_the_best_epoch_is_tested_not_the_last(build, saved):
    built = build(**SMALL, users=60, items=60, per_user=12, epochs=6, stopping_step=10)
    trainer = built.trainer()
    states = []
    best, _ = trainer.fit(
        built.train, built.valid, saved=saved, verbose=False,
        callback_fn=lambda epoch, score: states.append((score, built.model.item_embedding.weight.detach().clone())),
    )  # fmt: skip
    expected = max(reversed(states), key=lambda state: state[0])  # RecBole takes the last among equals
    assert best == expected[0]
    with torch.no_grad():
        if saved:
            built.model.item_embedding.weight.zero_()  # the checkpoint must bring it back
    trainer.evaluate(built.test, load_best_model=saved)
    state = next(s for s in reversed(states) if s[0] == best)
    assert torch.equal(built.model.item_embedding.weight, state[1])


def test_checkpoints_hold_tensors_and_json_and_training_resumes_from_them(build):
    whole, half = build(**SMALL, epochs=4), build(**SMALL, epochs=2)
    trainer = half.trainer()
    trainer.fit(half.train, verbose=False)
    folder = Path(trainer.saved_model_file)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}
    assert json.loads((folder / "progress.json").read_text())["epoch"] == 1
    again = whole.trainer()
    again.resume_checkpoint(folder)
    assert again.start_epoch == 2
    restored = again.optimizer.state_dict()["state"]
    for parameter, values in trainer.optimizer.state_dict()["state"].items():
        for name, value in values.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(restored[parameter][name]))
    again.fit(whole.train, saved=False, verbose=False)
    assert [epoch["epoch"] for epoch in again.history] == [2, 3]


def test_same_seed_same_bytes(build, tmp_path):
    for name in ("a", "b"):
        built = build(**SMALL, epochs=2, contrastive_items=10)
        built.trainer().fit(built.train, built.valid, saved=False, verbose=False)
        save(built.model, tmp_path / name)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_learning_rate_falls_by_the_epoch(build):
    built = build(**SMALL, epochs=3, lr_decay=0.25, lr_decay_epochs=2)
    trainer = built.trainer()
    rates = []
    trainer.fit(
        built.train, built.valid, saved=False, verbose=False,
        callback_fn=lambda *_: rates.append(trainer.optimizer.param_groups[0]["lr"]),
    )  # fmt: skip
    assert rates == pytest.approx([0.02, 0.01, 0.005])


def test_wide_evaluation_gives_recboles_own_numbers(build):
    built = build(**SMALL, users=60, items=60, per_user=12, eval_batch_size=1)
    trainer = built.trainer()
    assert built.test.step == 1 and len(in_wide_steps(built.test)) == 1
    ours = trainer.evaluate(built.test, load_best_model=False)
    assert ours == Trainer.evaluate(trainer, built.test, load_best_model=False)


@pytest.mark.parametrize("metrics", [["Recall", "NDCG", "MRR"], ["Recall", "GAUC"]])
@pytest.mark.parametrize(("sampled", "batch"), [("uni20", 90), ("uni3", 1), ("uni40", 100_000)])
def test_sampled_evaluation_gives_recboles_own_numbers(build, metrics, sampled, batch):
    """In batches of a few users, of one with fewer candidates than the longest list, and of all."""
    asked = {"split": {"RS": [0.6, 0.2, 0.2]}, "group_by": "user", "order": "RO", "mode": sampled}
    changes = {"eval_args": asked, "metrics": metrics, "valid_metric": f"{metrics[0]}@10", "topk": [1, 5, 10]}
    built = build(**{**SMALL, **changes}, users=40, items=200, per_user=12, eval_batch_size=batch)
    trainer, shapes = built.trainer(), []
    collect = trainer.eval_collector.eval_batch_collect

    def watched(scores, *rest):
        shapes.append(scores.shape[1])
        collect(scores, *rest)

    trainer.eval_collector.eval_batch_collect = watched
    init_seed(3, True)  # negatives are drawn anew each time
    ours = trainer.evaluate(built.test, load_best_model=False)
    narrow = min(shapes) < trainer.model.n_items
    init_seed(3, True)
    trainer._neg_sample_batch_eval = Trainer._neg_sample_batch_eval.__get__(trainer)
    assert ours == trainer.evaluate(built.test, load_best_model=False)
    if batch < 1000:
        assert narrow == (metrics[-1] == "MRR" and sampled == "uni20")


def test_user_uniform_batches_are_the_references(build):
    built = build(**{**SMALL, "train_batch_size": 15}, users=20, items=25, per_user=8)
    inter = built.train._dataset.inter_feat
    seen = set(zip(inter["user_id"].tolist(), inter["item_id"].tolist(), strict=True))
    batches = UserUniformBatches(built.train, seed=1, epoch=0)
    drawn = list(batches)
    assert len(drawn) == len(batches) == len(inter) // 15 + 1
    for batch in drawn:
        users, positives, negatives = (batch[name].tolist() for name in ("user_id", "item_id", "neg_item_id"))
        assert len(set(users)) == len(users) == 15
        assert all(pair in seen for pair in zip(users, positives, strict=True))
        assert not any(pair in seen for pair in zip(users, negatives, strict=True)) and min(negatives) >= 1
    assert [b["item_id"].tolist() for b in batches.__class__(built.train, 1, 0)] == [
        b["item_id"].tolist() for b in drawn
    ]
    assert [b["item_id"].tolist() for b in batches.__class__(built.train, 1, 1)] != [
        b["item_id"].tolist() for b in drawn
    ]
    crowd = build(**{**SMALL, "train_batch_size": 64}, sampling="users", epochs=1)
    batch = next(iter(UserUniformBatches(crowd.train, 1, 0)))
    assert len(batch["user_id"]) == 64  # fewer users than the batch holds: with replacement
    trainer = crowd.trainer()
    trainer.fit(crowd.train, saved=False, verbose=False)
    assert np.isfinite(trainer.history[0]["losses"]).all()


def test_training_learns_what_images_tell(build):
    settings = {
        **SMALL,
        "epochs": 25,
        "embedding_size": 16,
        "valid_metric": "Recall@10",
        "stopping_step": 100,
    }
    built = build(users=80, items=80, per_user=14, **settings)
    trainer = built.trainer()
    trainer.fit(built.train, built.valid, saved=False, verbose=False)
    record = trainer.record()
    assert len(record["epochs"]) == 25 and record["seconds"] > 0
    assert record["epochs"][-1]["losses"][0] < record["epochs"][0]["losses"][0]
    assert record["valid"]["recall@10"] > 1.3 * 10 / 68  # chance: ten of the 68 items not seen in training


def test_nothing_is_written_to_the_working_directory(build, tmp_path):
    build(**SMALL, epochs=1).trainer()
    assert not (tmp_path / "log_tensorboard").exists()
    build(**SMALL, epochs=1, log_tensorboard=True).trainer()
    assert (tmp_path / "log_tensorboard").exists()


def test_features_of_recboles_own_files_are_used(build, tmp_path):
    plain = build(**SMALL)
    rows = plain.model.features("image")
    names = plain.dataset.field2id_token["item_id"]
    lines = ["image_id:token\timage:float_seq"]
    lines += [f"{names[i]}\t{' '.join(repr(float(x)) for x in rows[i])}" for i in range(1, len(names))]
    (tmp_path / "tiny" / "tiny.images").write_text("\n".join(lines))
    columns = {"inter": ["user_id", "item_id", "rating", "timestamp"], "images": ["image_id", "image"]}
    ours = build(
        **SMALL, item_features=None, additional_feat_suffix=["images"], load_col=columns,
        alias_of_item_id=["image_id"], preload_weight={"image_id": "image"},
    )  # fmt: skip
    assert ours.model.modalities == ["image"]
    torch.testing.assert_close(ours.model.features("image"), rows)
