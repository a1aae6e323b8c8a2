"""Generators of other packages: what they do wrong is said by name, and their code is part of what a run remembers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from recgen.config import plugins
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.recommender.reward import LazyRanker
from recgen.stages import chunks, generate
from recgen.stages.plugin_calls import GeneratorFailedError

TITLE = r"generator 'faulty' \(toy_generators:Faulty of toy 1.0\)"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, write_config) -> Path:
    """A run's folder up to the ranking models."""
    folder = tmp_path_factory.mktemp("prepared")
    pipeline.execute(RunContext(load_config(str(write_config(folder))), folder / "run"), until="ranker")
    return folder / "run"


def drawn(prepared: Path, write_config, tmp_path: Path, fault: str) -> list[Path]:
    """Fit and draw with one fault, in the prepared run's folder."""
    config = load_config(str(write_config(tmp_path, generators=["faulty"], faulty={"fault": fault})))
    run = RunContext(config, prepared)
    for table in (prepared / "creatives/shards/faulty").glob("*"):
        table.unlink()
    generate.fit(run, "faulty")
    return chunks.draw_all(run, "faulty")


def test_without_a_fault_it_draws(prepared, write_config, tmp_path):
    assert drawn(prepared, write_config, tmp_path, "none")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("few", "found 4 creatives for 5 requests; expected one creative for each"),
        ("many", "found more for 5 requests"),
        ("endless", "found more for 5 requests"),
        ("type", "found a Image as creative 1 of 5; expected a recgen.data.types.Creative"),
        ("image", "creative 1 of 5 with a ndarray as its image"),
        ("order", "creative 1 of 5 for the request .user, item. .*in their order"),
        ("recipe", "creative 1 of 5 with a recipe that JSON cannot hold"),
    ],
)
def test_a_wrong_answer_is_a_mistake_that_names_the_plugin(prepared, write_config, tmp_path, fault, says):
    with pytest.raises(UserError, match=f"^{TITLE}, in generate: .*{says}"):
        drawn(prepared, write_config, tmp_path, fault)
    assert not list((prepared / "creatives/shards/faulty").glob("*.parquet"))


@pytest.mark.parametrize(
    ("fault", "method", "what"),
    [
        ("init", "__init__", "KeyError"),
        ("fit", "fit", "KeyError"),
        ("save", "save", "KeyError"),
        ("load", "load", "KeyError"),
        ("raise", "generate", "KeyError"),
        ("none at all", "generate", "TypeError"),
    ],
)
def test_what_a_plugin_raises_has_its_name(prepared, write_config, tmp_path, fault, method, what):
    with pytest.raises(GeneratorFailedError, match=f"^{TITLE} raised in {method}: {what}") as caught:
        drawn(prepared, write_config, tmp_path, fault)
    assert type(caught.value.__cause__).__name__ == what


def test_a_package_that_cannot_be_imported_is_named(write_config, tmp_path):
    with pytest.raises(
        UserError, match=r"'broken', whose class no_such_module:Broken of toy 1.0 cannot be imp"
    ):
        load_config(str(write_config(tmp_path, generators=["broken"])))


def test_settings_of_another_class_are_a_mistake(prepared, write_config, tmp_path, monkeypatch):
    import toy_generators

    monkeypatch.setattr(toy_generators.Faulty, "Config", toy_generators.ToyConfig)
    with pytest.raises(UserError, match=r"recgen.generator_settings: found toy_generators.FaultyConfig"):
        drawn(prepared, write_config, tmp_path, "none")


def test_the_reward_reaches_drawing(prepared, write_config, tmp_path, monkeypatch):
    import toy_generators

    seen = []
    monkeypatch.setattr(
        toy_generators.Faulty, "_wrong", lambda self, right: seen.append(self.reward) or iter(right)
    )
    original = toy_generators.Faulty.generate

    def noted(self, requests, data, reward=None, progress=None):
        self.reward = reward
        return original(self, requests, data, reward)

    monkeypatch.setattr(toy_generators.Faulty, "generate", noted)
    drawn(prepared, write_config, tmp_path, "none")
    assert seen and all(isinstance(each, LazyRanker) for each in seen)


def prints(write_config, tmp_path, *generators: str) -> dict[str, str]:
    run = RunContext(load_config(str(write_config(tmp_path, generators=list(generators)))), tmp_path / "run")
    return pipeline.fingerprints(pipeline.tasks(run), 1)


def test_changed_code_of_a_plugin_fits_and_draws_again(write_config, tmp_path, toy_package, monkeypatch):
    monkeypatch.syspath_prepend(str(toy_package))
    monkeypatch.delitem(sys.modules, "toy_generators")  # which another test may have imported from elsewhere
    before = prints(write_config, tmp_path, "toy", "stable_diffusion")
    file = toy_package / "toy_generators.py"
    text = file.read_text()
    file.write_text(text.replace("uniform(-40, 40", "uniform(-41, 40"))
    after = prints(write_config, tmp_path, "toy", "stable_diffusion")
    file.write_text(text)
    changed = {name for name in before if before[name] != after[name]}
    assert {"generator.fit/toy", "generate/toy"} <= changed
    assert not {"generate/stable_diffusion", "ranker/judge", "features"} & changed
    assert prints(write_config, tmp_path, "toy", "stable_diffusion") == before


def test_another_version_of_a_plugin_fits_and_draws_again(write_config, tmp_path, toy_package):
    before = prints(write_config, tmp_path, "toy")
    metadata = toy_package / "toy-1.0.dist-info/METADATA"
    text = metadata.read_text()
    metadata.write_text(text.replace("Version: 1.0", "Version: 1.1"))
    plugins._installed.cache_clear()
    after = prints(write_config, tmp_path, "toy")
    metadata.write_text(text)
    plugins._installed.cache_clear()
    assert before["generate/toy"] != after["generate/toy"] and before["ranker/judge"] == after["ranker/judge"]


def test_a_methods_own_room_is_its_code():
    found = {name: plugins.source(plugins.GENERATORS, name) for name in ("ragar", "pmg", "t0", "t1", "toy")}
    files = {name: each["files"] for name, each in found.items()}
    assert files["t0"] == files["t1"] and len({files["ragar"], files["pmg"], files["t0"], files["toy"]}) == 4
    assert "absent" not in files.values() and json.dumps(found)
