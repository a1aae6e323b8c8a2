"""A run from end to end on a tiny data set: what it writes, that nothing is done twice, and that a kill costs nothing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from dying import die_at_write
from PIL import Image

from recgen import api as session
from recgen.config.loader import load_config
from recgen.core import io
from recgen.core.errors import UserError
from recgen.pipeline import pipeline, workspace
from recgen.pipeline.context import RunContext


@pytest.fixture(scope="module")
def finished(tmp_path_factory, write_config) -> Path:
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("finished")
    session.run(str(write_config(folder)), str(folder / "run"), ())
    return folder / "run"


def results(folder: Path) -> dict[str, object]:
    """What must be equal, byte for byte, however often a run was interrupted."""
    manifest = folder / "creatives/manifest.parquet"
    images = {path: (folder / path).read_bytes() for path in pd.read_parquet(manifest)["path"]}
    return {
        "manifest": manifest.read_bytes(),
        "images": images,
        "metrics": (folder / "metrics.json").read_bytes(),
    }


def done(folder: Path, config: Path, *overrides: str, **options: str) -> list[str]:
    """Run in a folder and return the names of the tasks that ran."""
    return pipeline.execute(RunContext(load_config(str(config), overrides), folder), **options)


def test_every_request_has_its_creative(finished):
    requests = pd.read_parquet(finished / "dataset/requests.parquet")
    manifest = pd.read_parquet(finished / "creatives/manifest.parquet")
    assert len(requests) == 12
    assert manifest[["user_id", "item_id", "seed"]].equals(requests[["user_id", "item_id", "seed"]])
    for row in manifest.itertuples():
        path = finished / row.path
        assert hashlib.sha256(path.read_bytes()).hexdigest() == row.sha256
        recipe = json.loads(Image.open(path).text["recgen"])
        assert recipe == json.loads(row.recipe) and recipe["seed"] == row.seed and recipe["strength"] == 0.5


def test_metrics_cover_creatives_and_downstream(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    measured = metrics["creatives"]["toy"]
    asked = {
        "delta_r_judge",
        "delta_r_reward",
        "cps",
        "cpis",
        "cs",
        "cis",
        "ssim_semantic",
        "cmmd",
        "verifier_score",
    }
    assert asked <= set(measured)
    assert (
        measured["cis"]["n"] == 12
        and measured["cis"]["low"] <= measured["cis"]["value"] <= measured["cis"]["high"]
    )
    own = {"toy", "swapped.toy", "dealt.toy"}
    assert set(metrics["downstream"]) == {"ORI", "SHUFFLED", "NONE", "RANDOM", "CONSTANT", *own}
    assert metrics["downstream"]["toy"]["recall@10"]["n"] == 2
    assert 0 < metrics["tests"]["permutation"]["toy"]["p"] <= 1
    assert (finished / "report.html").stat().st_size > 1_000


def test_no_model_is_pickled(finished):
    assert {path.name for path in (finished / "ranker/judge").iterdir()} == {
        "model.safetensors",
        "config.json",
        "training.json",
    }
    assert not [path for path in finished.rglob("*") if path.suffix in (".pth", ".pt", ".pkl", ".bin")]


def test_reward_and_judge_saw_disjoint_halves(finished, write_config, tmp_path):
    from recgen.recommender.splits import half

    run = RunContext(load_config(str(write_config(tmp_path))), finished)
    reward, judge = (half(run.settings.seed, run.split, role) for role in ("reward", "judge"))
    assert (reward != judge).all()
    users = run.split.train.inter_feat["user_id"].numpy()
    for user in set(users.tolist()):
        assert abs(int(reward[users == user].sum()) - int(judge[users == user].sum())) <= 1


def test_second_run_does_nothing_and_says_so(finished, write_config, tmp_path, caplog):
    before = {
        path: path.stat().st_mtime_ns
        for path in finished.rglob("*")
        if path.is_file() and path.name != "log.txt"
    }
    session.run(str(write_config(tmp_path)), str(finished), ())
    assert "Nothing to do" in caplog.text
    after = {path: path.stat().st_mtime_ns for path in before}
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed <= {"config.yaml", ".lock"}


def test_second_run_imports_nothing_heavy(finished, write_config, tmp_path, toy_package):
    arguments = ["recgen", "run", "--config", str(write_config(tmp_path)), "--out", str(finished)]
    program = f"import sys; sys.argv = {arguments}; from recgen.cli import main; main(); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(toy_package)}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert "Nothing to do" in ended.stderr
    assert not {"torch", "diffusers", "transformers", "recbole"} & set(ended.stdout.split())


def test_one_more_generator_redoes_nothing_else(finished, write_config, tmp_path):
    config = write_config(tmp_path, generators=["toy", "other"])
    ran = done(finished, config)
    assert "generate/other" in ran and "downstream/other/1" in ran
    alone = [
        name
        for name in ran
        if name.split("/")[0] in ("dataset", "features", "ranker") or "/toy" in name or "/ORI" in name
    ]
    assert not alone
    manifest = pd.read_parquet(finished / "creatives/manifest.parquet")
    assert manifest["generator"].tolist() == ["toy"] * 12 + ["other"] * 12
    paired = json.loads((finished / "metrics.json").read_text())["tests"]["paired"]
    assert {"toy", "other"} in [{test["a"], test["b"]} for test in paired]
    assert done(finished, write_config(tmp_path))[-1] == "report"  # and back again, for the tests that follow


def test_fewer_requests_train_nothing_again(finished, write_config, tmp_path):
    ran = done(finished, write_config(tmp_path), "recgen.requests=4", until="generate")
    assert ran == ["dataset/requests", "generate/toy", "generate"]
    few = pd.read_parquet(finished / "dataset/requests.parquet")
    assert len(few) == 4
    ran = done(finished, write_config(tmp_path))
    everyone = pd.read_parquet(finished / "dataset/requests.parquet")
    assert everyone.merge(few[["user_id", "seed"]], on=["user_id", "seed"]).shape[0] == 4, (
        "the chosen ones keep their seeds"
    )


def test_force_redoes_a_stage_and_what_follows(finished, write_config, tmp_path):
    before = results(finished)
    ran = done(finished, write_config(tmp_path), force="generate", until="downstream")
    assert ran[0] == "generate/toy" and ran[-1] == "downstream"
    assert "generator.fit/toy" not in ran and not [name for name in ran if name.startswith("downstream/")]
    assert results(finished) == before


@pytest.mark.parametrize("kills", [pytest.param((1, 30, 9), marks=pytest.mark.slow), (7, 18, 43)])
def test_killed_at_any_write_it_ends_the_same(finished, write_config, in_child, tmp_path, kills):
    """Each number is the write, counted from the start of one attempt, at which that attempt is killed; -9 cannot be caught."""
    config = write_config(tmp_path)
    for kill in kills:
        assert in_child(_run_until_write, config, tmp_path / "run", kill) == -signal.SIGKILL
    assert in_child(session.run, str(config), str(tmp_path / "run"), (), "downstream") == 0
    assert results(tmp_path / "run") == results(finished)
    assert not list((tmp_path / "run").rglob(".tmp-*"))


def _run_until_write(config: Path, folder: Path, last: int) -> None:
    """Run, and die at the `last` file; see `die_at_write`."""
    die_at_write(last)
    session.run(str(config), str(folder), (), "downstream")


def test_finished_chunks_are_not_drawn_again(write_config, in_child, tmp_path):
    config, folder = write_config(tmp_path), tmp_path / "run"
    done(folder, config, until="generator.fit")
    first = folder / "creatives/shards/toy/0000000.parquet"

    def die_after_first_chunk() -> None:
        original = io.write_parquet

        def write(path: Path, frame: pd.DataFrame) -> None:
            original(path, frame)
            os.kill(os.getpid(), signal.SIGKILL)

        from recgen.stages import generate as generation

        generation.write_parquet = write
        done(folder, config, until="generate")

    assert in_child(die_after_first_chunk) == -signal.SIGKILL
    written = first.stat().st_mtime_ns
    done(folder, config, until="generate")
    assert first.stat().st_mtime_ns == written


def test_second_process_says_so_and_stops(finished, write_config, in_child, tmp_path):
    config = write_config(tmp_path)

    def attempt(check: Callable[[UserError], bool]) -> None:
        try:
            session.run(str(config), str(finished), ())
        except UserError as error:
            os._exit(0 if check(error) else 3)

    pid = os.getpid()
    with workspace.Workspace(finished).lock():
        assert in_child(attempt, lambda error: f"process {pid}" in str(error) and "--out" in str(error)) == 0
    assert in_child(attempt, lambda error: False) == 0, "the lock is free again"
