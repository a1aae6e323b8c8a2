"""A user's script, in a process of its own: one line more, and RecBole runs our models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
