"""Captions and keywords in a run: made for the generators that ask for them, once, and for nobody else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recgen import api as session
from recgen.config.loader import load_config
from recgen.core.io import read_features, write_features, write_parquet
from recgen.features import completion
from recgen.features.language import LanguageModel
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext


@pytest.fixture(scope="module")
def words(tmp_path_factory, tiny_llm) -> dict[str, object]:
    """Settings of a run whose generator asks for keywords, by the tiny models and a vocabulary of two words."""
    path = tmp_path_factory.mktemp("vocabulary") / "own.yaml"
    path.write_text("caption: a {tone} image\ngroups: {tone: {phrases: [dark, light]}}\n")
    return {
        "generators": ["wordy"],
        "captioner": {"tagger": str(path)},
        "llm": str(tiny_llm),
        "keywords": {"n": 3},
    }


def done(folder: Path, config: Path, *overrides: str, **options: str) -> list[str]:
    """Run in a folder and return the names of the tasks that ran."""
    return pipeline.execute(RunContext(load_config(str(config), overrides), folder), **options)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, write_config, words) -> Path:
    """The folder of a run up to the fitted generator."""
    folder = tmp_path_factory.mktemp("words")
    session.run(str(write_config(folder, **words)), str(folder / "run"), (), until="generator.fit")
    return folder / "run"


def test_a_generator_sees_the_words_it_asks_for(fitted, tiny_llm):
    seen = json.loads((fitted / "generator/wordy/seen.json").read_text())
    assert len(seen["captions"]) == len(seen["keywords"]) == seen["features"][0] == 30
    assert set(seen["captions"]) <= {"a dark image", "a light image"}
    assert any(seen["keywords"]) and all(len(words) <= 3 for words in seen["keywords"])
    assert seen["features"][1] == 16 and seen["without"] == 0 and seen["llm"] == str(tiny_llm)
    table = pd.read_parquet(fitted / "features/captions.parquet")
    assert list(table.columns) == ["item_id", "caption"] and len(table) == 30
    assert len((fitted / "features/caption.ids.txt").read_text().split()) == 30


def test_an_item_without_an_image_has_no_caption_and_no_feature(fitted, write_config, words, tmp_path):
    shutil.copytree(fitted, tmp_path / "run")
    features = tmp_path / "run/features"
    table = pd.read_parquet(features / "captions.parquet")
    write_parquet(features / "captions.parquet", table[1:])
    rows = read_features(features / "caption.safetensors")
    write_features(features / "caption.safetensors", rows[1:], table["item_id"].tolist()[1:])
    data = RunContext(load_config(str(write_config(tmp_path, **words))), tmp_path / "run").data
    lost = data.item_rows[table["item_id"].iloc[0]]
    assert [row for row, said in enumerate(data.captions) if not said] == [lost]
    assert np.flatnonzero(np.isnan(data.caption_features).all(axis=1)).tolist() == [lost]


def test_nobody_asks_nothing_is_made(write_config, tmp_path):
    run = RunContext(load_config(str(write_config(tmp_path))), tmp_path / "run")
    names = [task.name for task in pipeline.tasks(run)]
    assert "features/captions" not in names and "features/keywords" not in names
    assert "features" in names


def test_another_model_or_vocabulary_makes_the_words_anew_and_another_generator_does_not(
    fitted, write_config, words, tmp_path
):
    config = write_config(tmp_path, **words)

    def prints(*overrides: str) -> dict[str, str]:
        run = RunContext(load_config(str(config), overrides), fitted)
        return pipeline.fingerprints(pipeline.tasks(run), 1)

    base, more = prints(), prints("recgen.keywords.n=4")
    assert _changed(base, more) == {"features/keywords", "generator.fit/wordy", *_after(base)}
    both = prints("recgen.generators=[toy, wordy]")
    assert _changed(base, both) & set(base) <= set(_after(base)), "one more generator makes no word again"
    (tmp_path / "other.yaml").write_text("caption: '{tone}'\ngroups: {tone: {phrases: [a, b]}}\n")
    other = prints(f"recgen.captioner.tagger={tmp_path / 'other.yaml'}")
    assert {"features/captions", "features/keywords", "generator.fit/wordy"} <= _changed(base, other)
    patient = prints("recgen.keywords.endpoint={url: 'http://127.0.0.1:9', model: m}")
    hasty = prints("recgen.keywords.endpoint={url: 'http://127.0.0.1:9', model: m, timeout: 1, workers: 9}")
    assert patient["generator.fit/wordy"] == hasty["generator.fit/wordy"] != base["generator.fit/wordy"]
    alone = prints("recgen.generators=[toy]")
    assert alone["generator.fit/toy"] == both["generator.fit/toy"], (
        "a generator without words does not learn anew for one with"
    )


def _changed(old: dict[str, str], new: dict[str, str]) -> set[str]:
    return {name for name in old if name in new and old[name] != new[name]}


def _after(prints: dict[str, str]) -> set[str]:
    """Names of the tasks that see images or the whole configuration."""
    return {
        n
        for n in prints
        if n.split("/")[0] in ("generate", "gate", "evaluate", "downstream", "report")
        and not {"ORI", "SHUFFLED", "NONE", "RANDOM", "draws", "slates"} & set(n.split("/"))
    }


def test_a_killed_run_asks_for_the_missing_keywords_only(
    write_config, words, in_child, tmp_path, monkeypatch
):
    config, folder = write_config(tmp_path, **words), tmp_path / "run"
    monkeypatch.setattr(completion, "_BLOCK", 8)
    assert in_child(_die_at_second_block, config, folder) == -signal.SIGKILL
    asked: list[str] = []
    original = LanguageModel.complete

    def complete(self: LanguageModel, prompts: list[str], max_new_tokens: int) -> list[str]:
        asked.extend(prompts)
        return original(self, prompts, max_new_tokens)

    monkeypatch.setattr(LanguageModel, "complete", complete)
    assert done(folder, config, until="features") == ["features/keywords"]
    assert len(asked) == 22
    assert len(pd.read_parquet(folder / "features/keywords.parquet")) == 30


def _die_at_second_block(config: Path, folder: Path) -> None:
    original, calls = LanguageModel.complete, [0]

    def complete(self: LanguageModel, prompts: list[str], max_new_tokens: int) -> list[str]:
        calls[0] += 1
        if calls[0] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, prompts, max_new_tokens)

    LanguageModel.complete = complete
    done(folder, config, until="features")


def test_with_nothing_to_do_it_imports_nothing_heavy(fitted, write_config, words, tmp_path, toy_package):
    config = write_config(tmp_path, **words)
    arguments = ["recgen", "run", "--config", str(config), "--out", str(fitted), "--until", "generator.fit"]
    program = f"import sys; sys.argv = {arguments}; from recgen.cli import main; main(); print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(toy_package)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0 and "Nothing to do" in ended.stderr, ended.stderr
    heavy = {"torch", "diffusers", "transformers", "recbole.config", "toy_generators", "requests"}
    assert not heavy & set(ended.stdout.split())
