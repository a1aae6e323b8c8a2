"""A user's script, in a process of its own: one line more, and RecBole runs our models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from conftest import write_dataset

SCRIPT = """
import json
import ranking_models

ranking_models.register()
from recbole.quick_start import run_recbole

result = run_recbole(model={model!r}, dataset="tiny", saved={saved}, config_dict=json.load(open("settings.json")))
print("RESULT", json.dumps(dict(result["test_result"])))
"""


def run_script(folder: Path, script: str) -> str:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))


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
