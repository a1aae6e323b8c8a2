"""Controls in a run: drawn, measured, compared and kept apart from the generators."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from recgen import api
from recgen.config.generators import GeneratorSpec, placebo_decode
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.data.images import read_image
from recgen.pipeline.context import RunContext
from recgen.stages import measure
from recgen.stages.measure import CreativeBatch, check_creatives
from recgen.stages.ranker import reward_model

BLIND = {"protocol": "blind", "items": 6, "per_item": 3}
EVERY = ["original", "constant", "swapped", "random_item", "blank", "placebo"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, write_config) -> Path:
    """A run with items drawn blind and every control."""
    folder = tmp_path_factory.mktemp("controls")
    write_config(
        folder, requests=BLIND, controls=EVERY, placebo_noises=3, downstream={"seeds": 1, "items": 2}
    )
    api.run(str(folder / "tiny.yaml"), str(folder / "run"), (), until="evaluate")
    return folder / "run"


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_every_control_is_measured_and_none_is_a_generator(finished):
    found = metrics(finished)
    assert list(found["creatives"]) == ["toy"]
    shown = {f"control.{name}" for name in EVERY if name != "swapped"}
    assert set(found["controls"]) == shown | {"swapped.toy", "swapped.control.placebo"}
    assert set(pd.read_parquet(finished / "per_request.parquet")["generator"]) == {"toy"}
    assert set(pd.read_parquet(finished / "creatives/manifest.parquet")["generator"]) == {"toy"}
    assert found["run"]["protocol"] == "blind" and found["run"]["requests"] == 18


def test_the_items_own_image_changes_nothing(finished):
    own = metrics(finished)["controls"]["control.original"]
    assert own["risen_judge"]["value"] == 0 and own["delta_r_judge"]["value"] == 0
    assert own["ssim_semantic"]["value"] == pytest.approx(1) and own["retrieved_top1"]["value"] == 1


def test_the_placebo_selects_among_as_many_noises_as_asked_for(finished):
    recipes = pd.concat(
        [pd.read_parquet(path) for path in (finished / "creatives/shards/control.placebo").glob("*.parquet")]
    )["recipe"]
    assert len(recipes) == 18 and all(json.loads(recipe)["noises"] == 3 for recipe in recipes)
    assert metrics(finished)["run"]["placebo_noises"] == 3


def test_items_images_that_are_kept_are_read_once_and_change_nothing(finished, monkeypatch):
    def measured(run: RunContext) -> tuple[bytes, int]:
        read: list[Path] = []
        monkeypatch.setattr(measure, "_open", lambda path: read.append(path) or read_image(path))
        own = {path for path in run.data.images if path is not None}
        table, _ = measure.measure(run, "toy")
        monkeypatch.undo()
        return table.read_bytes(), sum(path in own for path in read)

    before = (finished / "evaluation/toy.parquet").read_bytes()
    run = RunContext(load_config(str(finished.parent / "tiny.yaml")), finished)
    found, once = measured(run)
    assert found == before and measured(run) == (before, 0), "kept from the first time"
    run.clear_cache()
    monkeypatch.setattr(measure, "SQUARES", 1)
    assert measured(run) == (before, once) and len(run.squares) == 1


def test_swapped_is_the_same_image_for_another_user(finished):
    made, swapped = (
        pd.read_parquet(finished / f"evaluation/{name}.parquet").set_index(["user_id", "item_id"])
        for name in ("toy", "swapped.toy")
    )
    assert set(made.index) == set(swapped.index)
    tables = sorted((finished / "creatives/shards/swapped.toy").glob("*.parquet"))
    rows = pd.concat([pd.read_parquet(path) for path in tables])
    drawn = pd.read_parquet(finished / "creatives/manifest.parquet").set_index("path")
    assert all(
        drawn.loc[path, "item_id"] == item for path, item in zip(rows["path"], rows["item_id"], strict=True)
    )
    assert not any(
        drawn.loc[path, "user_id"] == user for path, user in zip(rows["path"], rows["user_id"], strict=True)
    )
    assert made["cis"].sum() == pytest.approx(swapped["cis"].sum()), "the same images, dealt otherwise"


def test_contrasts_and_their_p_values(finished):
    tests = metrics(finished)["tests"]
    (primary,) = [each for each in tests["contrasts"] if each["primary"]]
    assert (primary["a"], primary["b"], primary["metric"]) == (
        "toy",
        "swapped.toy",
        "standardised_gain_judge",
    )
    assert primary["n"] == 18 and primary["detectable"] > 0 and primary["p_holm"] == primary["p"]
    assert {each["kind"] for each in tests["contrasts"]} == {"swapped", "control", "net of placebo"}
    assert all(each["p_holm"] >= each["p"] for each in tests["contrasts"] if each["p"] is not None)
    assert tests["permutation"]["toy"]["n"] == 18


def test_gains_are_standardised_by_how_far_the_users_scores_lie_apart(finished, monkeypatch):
    run = RunContext(load_config(str(finished.parent / "tiny.yaml")), finished)
    judge, items = reward_model(run, "judge"), run.items["item_id"].tolist()
    found = pd.read_parquet(finished / "evaluation/toy.parquet")
    spread = [
        float(judge.score_all([user], items)[0].double().std(correction=0)) for user in found["user_id"]
    ]
    expected = found["score_gain_judge"] / spread
    np.testing.assert_allclose(found["standardised_gain_judge"], expected, rtol=1e-5)
    assert len(set(found["user_id"])) > 3 and np.ptp(spread) > 0 and expected.abs().max() > 0
    monkeypatch.setattr(measure, "SCORES_AT_ONCE", 2 * len(items))  # two users at once
    again = measure.by_rankers(run, measure.load(run, "toy"))["standardised_gain_judge"]
    np.testing.assert_allclose(again, found["standardised_gain_judge"], rtol=1e-5)


def test_users_alone_with_an_item_have_theirs_drawn(tmp_path, write_config):
    """By the papers' protocol nearly every user has an item of their own."""
    write_config(tmp_path, requests=5, controls=["swapped"], downstream={"seeds": 1, "items": 2})
    api.run(str(tmp_path / "tiny.yaml"), str(tmp_path / "run"), (), until="evaluate")
    own, swapped = (
        pd.read_parquet(tmp_path / f"run/evaluation/{name}.parquet") for name in ("toy", "swapped.toy")
    )
    assert len(own) == len(swapped) == 5 and own["item_id"].tolist() == swapped["item_id"].tolist()
    assert (own["cis"] != swapped["cis"]).any()
    again = (tmp_path / "run/metrics.json").read_bytes()
    api.run(str(tmp_path / "tiny.yaml"), str(tmp_path / "run"), (), until="evaluate", force="generate")
    assert (tmp_path / "run/metrics.json").read_bytes() == again


def test_the_placebo_is_sampled_as_the_first_generator_that_draws():
    blocks = {"folder": {"path": "x"}, "one": {"decode": {"steps": 3}}, "two": {"decode": {"steps": 9}}}
    for names, expected in ((list(blocks), {"steps": 3}), (["two", "one"], {"steps": 9}), (["folder"], None)):
        assert placebo_decode(GeneratorSpec(name, name, blocks[name]) for name in names) == expected


def test_without_controls_there_are_none(tmp_path, write_config):
    write_config(tmp_path, requests=3, controls=[], downstream={"seeds": 1, "items": 2})
    api.run(str(tmp_path / "tiny.yaml"), str(tmp_path / "run"), (), until="evaluate")
    found = metrics(tmp_path / "run")
    assert found["controls"] == {} and found["tests"]["contrasts"] == []
    assert not list((tmp_path / "run/creatives/shards").glob("*.*"))


@pytest.mark.parametrize(
    ("image", "embedding", "says"),
    [
        (Image.new("RGB", (32, 32)), 1.0, "'u2', item 'i7'.*single colour"),
        (Image.effect_noise((32, 32), 90).convert("RGB"), np.nan, "'u2', item 'i7'.*not finite"),
    ],
)
def test_an_image_that_is_none_names_its_request(tmp_path, image, embedding, says):
    Image.effect_noise((32, 32), 90).convert("RGB").save(tmp_path / "good.png")
    image.save(tmp_path / "bad.png")
    embeddings = np.array([[1.0], [embedding]], dtype=np.float32)
    paths = [tmp_path / "good.png", tmp_path / "bad.png"]
    made = CreativeBatch(
        "toy", ["u1", "u2"], ["i3", "i7"], [[], []], np.array([3, 7]), paths, embeddings, embeddings
    )
    with pytest.raises(UserError, match=says):
        check_creatives(made)
