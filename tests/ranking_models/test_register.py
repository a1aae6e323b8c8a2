"""A user's script, in a process of its own: one line more, and RecBole runs our models."""

from __future__ import annotations

import json

from own_script import SCRIPT, run_script
from small_dataset import write_dataset


def test_run_recbole_runs_micro_to_a_test_result(tmp_path):
    settings = write_dataset(tmp_path, users=30, items=40, per_user=10)
    settings |= {"epochs": 4, "eval_step": 2, "embedding_size": 8, "knn_k": 4, "checkpoint_dir": "saved"}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    line = run_script(tmp_path, SCRIPT.format(model="MICRO", saved=True))
    result = json.loads(line.removeprefix("RESULT "))
    assert set(result) == {"recall@10", "recall@20", "ndcg@10", "ndcg@20", "precision@10", "precision@20"}
    assert 0 < result["recall@20"] <= 1
    checkpoint = next((tmp_path / "saved").glob("MICRO-*"))
    assert sorted(path.name for path in checkpoint.iterdir()) == [
        "config.json", "model.safetensors", "optimizer.safetensors", "progress.json",
    ]  # fmt: skip
