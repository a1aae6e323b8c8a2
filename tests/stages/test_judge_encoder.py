"""A judge with an encoder of its own, and ranking models that learn from redraws too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from recgen import api
from recgen.config.loader import load_config
from recgen.core.compat import prepare_torchvision
from recgen.core.errors import UserError
from recgen.core.io import read_features
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.pipeline.models import Models
from recgen.stages.creative_batch import load
from recgen.stages.features import embed_for_judge
from recgen.stages.ranker import reward_model

BLIND = {"protocol": "blind", "items": 5, "per_item": 2}
POINTWISE = {"reward": "Verifier", "judge": "Verifier", "settings": {"Verifier": {"epochs": 3}}}


@pytest.fixture(scope="module")
def dino(tmp_path_factory) -> Path:
    """An image model of transformers whose embeddings have width 12; the run's own have 16."""
    prepare_torchvision()
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(1)
    shape = {
        "hidden_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    Dinov2Model(Dinov2Config(**shape)).save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, write_config, dino) -> Path:
    """A run whose judge sees through another network, with two redraws of each image."""
    folder = tmp_path_factory.mktemp("judged")
    ranker = {**POINTWISE, "judge_encoder": str(dino), "redraws": 2}
    write_config(folder, requests=BLIND, controls=["original", "swapped"], ranker=ranker)
    api.run(str(folder / "tiny.yaml"), str(folder / "run"), (), until="evaluate")
    return folder


def context(folder: Path, changes=()) -> RunContext:
    return RunContext(load_config(str(folder / "tiny.yaml"), changes), folder / "run")


def test_the_judge_alone_reads_its_encoders_features(finished):
    trained = {
        role: json.loads((finished / f"run/ranker/{role}/config.json").read_text())
        for role in ("reward", "judge", "verifier")
    }
    texts = {json.dumps(each["features"]["text"]) for each in trained.values() if "text" in each["features"]}
    assert len(texts) <= 1
    image = {role: each["features"]["image"] for role, each in trained.items()}
    assert image["reward"] == image["verifier"] != image["judge"]
    own, judged = (
        read_features(finished / f"run/features/{name}.safetensors") for name in ("image", "judge_image")
    )
    assert own.shape == (30, 16) and judged.shape == (30, 12)


def test_the_items_own_image_changes_nothing_for_a_judge_that_sees_it_anew(finished):
    """Its score follows from the image file through the judge's encoder, and must equal that of the features on record."""
    own = pd.read_parquet(finished / "run/evaluation/control.original.parquet")
    assert (own["rank_original_judge"] == own["rank_creative_judge"]).all()
    assert np.abs(own["score_gain_judge"]).max() < 1e-4
    made = pd.read_parquet(finished / "run/evaluation/toy.parquet")
    assert np.abs(made["score_gain_judge"]).max() > 1e-3


def test_redraws_are_there_for_each_encoder(finished):
    for name, width in (("redraws", 16), ("judge_redraws", 12)):
        path = finished / f"run/features/{name}.safetensors"
        ids = path.with_suffix(".ids.txt").read_text().split()
        own = (finished / "run/features/image.ids.txt").read_text().split()
        assert read_features(path).shape == (60, width) and ids == [item for item in own for _ in range(2)]
    assert not (finished / "run/features/redrawn").exists()


def test_facts_name_the_encoder(finished, dino):
    facts = json.loads((finished / "run/metrics.json").read_text())["run"]
    assert facts["judge_encoder"] == str(dino) and facts["encoder"] != str(dino)


def test_generators_do_not_wait_for_a_judge_that_they_cannot_ask(finished, tiny_clip, dino):
    """With another encoder the judge is trained and asked again, and everything that was fitted and drawn remains."""
    one, two = (
        pipeline.fingerprints(pipeline.tasks(run), 1)
        for spec in (dino, tiny_clip)
        for run in [context(finished, [f"recgen.ranker.judge_encoder={spec}", "recgen.ranker.redraws=0"])]
    )
    changed = {name for name in one if one[name] != two[name] and not name.startswith("downstream")}
    measured = {
        "gate/toy",
        "evaluate",
        *(f"evaluate/{name}" for name in ("toy", "control.original", "swapped.toy")),
    }
    assert changed == {"features/judge", "ranker/judge", "report", *measured}


def test_a_weight_that_is_not_here_is_said_before_anything_starts(finished, tmp_path):
    with pytest.raises(UserError, match=r"recgen\.ranker\.judge_encoder.*'nowhere'"):
        api.run(str(finished / "tiny.yaml"), str(tmp_path / "run"), ["recgen.ranker.judge_encoder=nowhere"])
    assert not (tmp_path / "run/dataset").exists()


def test_a_model_of_graphs_learns_from_no_redraws(tmp_path, write_config):
    path = write_config(tmp_path, ranker={"redraws": 2})
    with pytest.raises(UserError, match=r"recgen\.ranker\.redraws: found redraws for MICRO"):
        api.run(str(path), str(tmp_path / "run"), ())
    assert not (tmp_path / "run/dataset").exists()


def test_one_model_in_both_roles_has_one_encoder(tmp_path, write_config, dino):
    path = write_config(tmp_path, ranker={"same_judge": True, "judge_encoder": str(dino)})
    with pytest.raises(UserError, match=r"judge_encoder: found .*same_judge: true"):
        load_config(str(path), ())


def test_several_judges_are_averaged(tmp_path, write_config, dino, tiny_clip):
    ranker = {**POINTWISE, "judge_encoder": [str(dino), str(tiny_clip)]}
    path = write_config(tmp_path, requests=BLIND, controls=["original"], ranker=ranker)
    api.run(str(path), str(tmp_path / "run"), (), until="evaluate")
    run = RunContext(load_config(str(path), ()), tmp_path / "run")
    made = load(run, "toy")
    asked = made.users, made.items
    assert [each.shape for each in made.judged] == [(10, 12), (10, 16)]
    judges = [reward_model(run, "judge", member) for member in range(2)]
    pairs = list(zip(judges, made.judged, strict=True))
    places = [judge.rank(*asked, seen).numpy() for judge, seen in pairs]
    gains = [(judge.score(*asked, seen) - judge.score_original(*asked)).numpy() for judge, seen in pairs]
    table = pd.read_parquet(tmp_path / "run/evaluation/toy.parquet")
    assert (places[0] != places[1]).any()
    np.testing.assert_allclose(table["rank_creative_judge"], np.mean(places, axis=0))
    np.testing.assert_allclose(table["score_gain_judge"], np.mean(gains, axis=0), rtol=1e-5)
    own = pd.read_parquet(tmp_path / "run/evaluation/control.original.parquet")
    assert (own["rank_original_judge"] == own["rank_creative_judge"]).all()


def test_a_judge_with_the_runs_own_encoder_takes_what_it_saw(finished, tiny_clip, monkeypatch):
    run = context(finished, [f"recgen.ranker.judge_encoder={tiny_clip}"])
    assert run.settings.encoder == str(tiny_clip)
    with monkeypatch.context() as closed:
        closed.setattr(Models, "judge_encoders", property(lambda models: pytest.fail("loads an encoder")))
        path, ids = embed_for_judge(run)
    own = finished / "run/features/image.safetensors"
    assert (read_features(path) == read_features(own)).all()
    assert ids.read_bytes() == own.with_suffix(".ids.txt").read_bytes()
    seen = run.models.judge_encoders[0].files([run.folder / name for name in run.items["image"]])
    np.testing.assert_array_equal(read_features(path), seen)
    given = context(
        finished, [f"recgen.ranker.judge_encoder={tiny_clip}", f"recgen.given_features.image={own}"]
    )
    monkeypatch.setattr(Models, "judge_encoders", property(lambda models: pytest.fail("loads an encoder")))
    with pytest.raises(pytest.fail.Exception, match="loads an encoder"):
        embed_for_judge(given)  # what the user gives as the encoder's need not be it
