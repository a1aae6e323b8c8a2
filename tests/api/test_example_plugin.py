"""examples/plugin is installed by pip, without a network, and draws in a run and under its own tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
RUN = "from recgen import api; import sys; api.run(sys.argv[1], sys.argv[2], (), until='generate')"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """The environment of a process that has the plugin, which pip installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT / "examples/plugin", folder / "source")
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--target", str(folder / "site")]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(folder / "source")], check=True, timeout=200
    )
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(ROOT)])}


def test_it_draws_the_best_by_the_reward_in_a_run(installed, write_config, tmp_path):
    own = {"decode": {"steps": 1, "guidance_scale": 1}, "noises": 2}
    config = write_config(tmp_path, generators=["best_of_n"], best_of_n=own)
    subprocess.run(
        [sys.executable, "-c", RUN, str(config), str(tmp_path / "run")],
        env=installed,
        check=True,
        timeout=250,
    )
    manifest = pd.read_parquet(tmp_path / "run/creatives/manifest.parquet")
    recipes = [json.loads(recipe) for recipe in manifest["recipe"]]
    assert len(recipes) == 12 and all(len(recipe["scores"]) == 6 for recipe in recipes)
    assert all(recipe["scores"][recipe["candidate"]] == max(recipe["scores"]) for recipe in recipes)


def test_its_own_tests_pass(installed):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-x",
            str(ROOT / "examples/plugin/tests"),
        ],
        env=installed,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout or "[100%]" in done.stdout
