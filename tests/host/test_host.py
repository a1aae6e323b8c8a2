"""Pieces of the host by themselves: what commands import, what RecBole is given, how files are written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recgen import doctor
from recgen.config import plugins
from recgen.config.loader import load_config, shipped
from recgen.core import io
from recgen.features.keywords import Keywords
from recgen.pipeline import pipeline, workspace
from recgen.pipeline.context import RunContext
from recgen.recommender import recbole


def test_asking_for_help_imports_nothing_heavy():
    program = "import sys, recgen.cli; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "click" in loaded
    assert not {"torch", "recbole", "pandas", "numpy", "transformers", "diffusers", "pydantic"} & set(loaded)


def test_checking_a_configuration_imports_no_model_and_no_recbole():
    program = """
import sys
from recgen.config.loader import load_config, plugins, shipped
for name in shipped():
    load_config(name)
for name in plugins.names(plugins.GENERATORS):
    plugins.settings_class(name, "test")
print(*sys.modules)
"""
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = set(loaded.stdout.split())
    assert "generators.ragar.settings" in found
    assert (
        not {"torch", "recbole", "diffusers", "transformers", "pandas", "generators.ragar.generator"} & found
    )


def test_settings_are_those_of_the_generators_class():
    for name in set(plugins.names(plugins.GENERATORS)) - {"broken"}:  # that one cannot be imported
        kind = plugins.load(plugins.GENERATORS, name, "test")
        assert kind.Config is plugins.settings_class(name, "test") and kind.name == name


def test_configurations_are_shipped():
    assert {"demo", "simulated", "ml-100k-posters"} <= set(shipped())
    assert "MICRO" not in shipped(), "a model's defaults are no configuration"


def test_recbole_evaluates_nothing_and_reads_no_command_line(dataset, monkeypatch):
    from recbole.model.general_recommender import BPR

    monkeypatch.setattr(sys, "argv", ["recgen", "--epochs=9", "--config=x"])
    keys = {
        "dataset": "tiny",
        "data_path": str(dataset.parent),
        "note": "__import__('os').getcwd()",
        "use_gpu": False,
    }
    config = recbole.recbole_config(BPR, keys)
    assert config["note"] == "__import__('os').getcwd()"
    assert config["epochs"] == 300
    assert sys.argv == ["recgen", "--epochs=9", "--config=x"]


def test_halves_keep_the_catalogue(dataset, write_config, tmp_path):
    run = RunContext(load_config(str(write_config(tmp_path))), tmp_path / "run")
    config = run.recbole_config("MICRO", {"item_features": {}})
    keep = np.arange(len(run.split.train.inter_feat)) % 2 == 0
    loaders = recbole.loaders(config, run.split, keep)
    assert loaders.train.dataset.item_num == run.split.whole.item_num == 31
    assert len(loaders.train.dataset.inter_feat) == keep.sum()
    assert len(run.split.train.inter_feat) == len(keep), "the whole training set is left as it was"


def test_same_judge_trains_one_model(write_config, tmp_path):
    run = RunContext(load_config(str(write_config(tmp_path, ranker={"same_judge": True}))), tmp_path / "run")
    names = [task.name for task in pipeline.tasks(run)]
    assert "ranker/judge" in names and "ranker/reward" not in names and run.resolve_role("reward") == "judge"


def test_fingerprints_follow_what_a_task_reads(write_config, tmp_path):
    def prints(*overrides: str) -> dict[str, str]:
        run = RunContext(load_config(str(write_config(tmp_path)), overrides), tmp_path / "run")
        return pipeline.fingerprints(pipeline.tasks(run), run.settings.seed)

    def changed(*overrides: str) -> set[str]:
        after = prints(*overrides)
        return {name for name in after if after[name] != before[name]}

    before = prints()
    assert prints() == before
    assert changed("recgen.gallery=3") == {"report"}
    drawn_again = {
        "generate/toy", "generate", "evaluate/toy", "evaluate", "downstream/toy/0", "downstream/toy/1", "downstream", "report"
    }  # fmt: skip
    assert changed("recgen.toy.strength=0.1") == drawn_again  # only drawing reads it
    assert changed("recgen.toy.brightness=0.1") == drawn_again | {"generator.fit/toy"}
    assert changed("recgen.precision=bfloat16") == drawn_again | {"generator.fit/toy"}
    assert {"dataset", "features"} & changed("learning_rate=0.1") == set()
    assert "ranker/judge" in changed("learning_rate=0.1")
    assert changed("recgen.seed=2") == set(before)


def test_fingerprints_follow_the_files(dataset, write_config, tmp_path):
    import shutil

    shutil.copytree(dataset, tmp_path / "data/tiny")
    run = RunContext(
        load_config(str(write_config(tmp_path)), [f"data_path={tmp_path / 'data'}"]), tmp_path / "run"
    )
    before = pipeline.fingerprints(pipeline.tasks(run), 1)["dataset"]
    with (tmp_path / "data/tiny/tiny.item").open("a") as file:
        file.write("i99\tnew\twar film\n")
    assert pipeline.fingerprints(pipeline.tasks(run), 1)["dataset"] != before


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    io.write_json(path, {"value": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        io.write_json(path, {"value": 2})
    assert json.loads(path.read_text()) == {"value": 1} and os.listdir(tmp_path) == ["metrics.json"]


def test_a_task_starts_clean_unless_it_goes_on(tmp_path):
    space = workspace.Workspace(tmp_path)
    (tmp_path / "part").mkdir()
    (tmp_path / "part/old").touch()
    space.begin("work", "first", ["part"])
    assert not (tmp_path / "part").exists()
    (tmp_path / "part").mkdir()
    (tmp_path / "part/shard").touch()
    space.begin("work", "first", ["part"])
    assert (tmp_path / "part/shard").exists(), "an interrupted task goes on"
    space.finish("work", "first", 1.0, [tmp_path / "part"])
    assert space.finished("work", "first") and not space.finished("work", "second")
    space.begin("work", "second", ["part"])
    assert not (tmp_path / "part").exists() and not space.finished("work", "first")


def test_a_task_whose_output_is_gone_is_not_finished(tmp_path):
    space = workspace.Workspace(tmp_path)
    (tmp_path / "out").touch()
    space.finish("work", "print", 1.0, [tmp_path / "out"])
    (tmp_path / "out").unlink()
    assert not space.finished("work", "print")


def test_features_round_trip(tmp_path):
    rows = np.arange(6, dtype=np.float64).reshape(2, 3)
    io.write_features(tmp_path / "image.safetensors", rows, ["a", "ü"])
    read = io.read_features(tmp_path / "image.safetensors")
    assert read.dtype == np.float32 and (read == rows).all()
    assert (tmp_path / "image.ids.txt").read_text(encoding="utf-8") == "a\nü\n"


def test_plugins_of_another_package_are_found():
    assert {"toy", "other", "rebeca"} <= set(plugins.names(plugins.GENERATORS))
    assert plugins.load(plugins.GENERATORS, "toy", "test").Config().strength == 0.5


def test_keywords_are_what_a_history_shares():
    texts = ["red war film", "blue war film", "a love film", "a love song", "green film", "old film"]
    assert Keywords(texts).of([texts[0], texts[1]], n=2) == ["war", "film"]
    assert Keywords(texts).of([texts[2], texts[3]], n=1) == ["love"]
    assert Keywords(texts).of([]) == []


def test_doctor_names_what_is_missing(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    lines = doctor.examine().split("\n")
    assert any(line.startswith("  ok  torch") for line in lines)
    assert any(line.startswith("  --  no-such-package") and "pip install" in line for line in lines)
    assert any(line.startswith("  ok  ml-100k") for line in lines)


def test_every_shipped_configuration_is_valid():
    for name in shipped():
        config = load_config(name)
        assert config.settings.generators == list(config.generators)
        assert Path(config.source).name == f"{name}.yaml"
