"""The gate of a small simulated run, whose generator shows the wrong thing in about half of its images."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.special import logit

import recgen
from recgen.cli import recgen as cli
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.core.provenance import recipe_hash
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.stages.gate import sound_image
from recgen.stages.generate import creatives


@pytest.fixture(scope="module")
def folder(market_config, tmp_path_factory):
    """A run whose gate asks whether the item is kept, and nobody whether that helps."""
    base = tmp_path_factory.mktemp("gate")
    ideal = {"truth": str(base / "run/dataset/simulator"), "record": str(base / "drawn.txt"), "wrong": 0.4}
    config = market_config(
        base, ideal=ideal, gate={"models": []}, requests={"protocol": "blind", "items": 10, "per_item": 4}
    )
    return recgen.run(config, base / "run", until="evaluate").folder


@pytest.fixture(scope="module")
def decided(folder):
    return pd.read_parquet(folder / "gate/ideal.parquet")


def test_what_shows_the_item_is_accepted_and_nothing_else(folder, decided):
    kept = pd.read_parquet(folder / "evaluation/ideal.parquet")["content_preservation"] == 1
    assert 15 < kept.sum() < 35
    assert decided.loc[decided["accepted"], "attributes"].min() >= 0.5
    assert not (decided["accepted"] & ~kept).any()
    assert (decided["accepted"] & kept).sum() >= 0.9 * kept.sum()
    assert set(decided.loc[~kept, "verdict"]) == {"attributes"}
    assert decided["sound"].all() and decided["unsafe"].isna().all()


def test_the_metrics_have_its_precision_and_recall(folder, decided):
    found = json.loads((folder / "metrics.json").read_text())["gate"]["ideal"]
    assert found["accepted"]["value"] == pytest.approx(decided["accepted"].mean())
    assert found["keeps"]["precision"]["value"] == 1 and found["keeps"]["recall"]["value"] >= 0.9
    assert 0.4 < found["keeps"]["all"]["value"] < 0.8
    assert found["safety"] == "not checked"
    gain = pd.read_parquet(folder / "evaluation/ideal.parquet")["true_utility_gain"]
    assert found["true_gain"]["shown"]["value"] == pytest.approx((gain * decided["accepted"]).mean())


def test_help_is_what_the_least_hopeful_model_says(folder, decided):
    changes = ['recgen.gate.models=["judge","verifier"]']
    run = RunContext(load_config(str(folder / "config.yaml"), changes), folder)
    with run.workspace.lock():
        done = pipeline.execute(run, until="evaluate")
    assert done == ["gate/ideal", "evaluate"], "nothing is drawn or measured again"
    measured = pd.read_parquet(folder / "evaluation/ideal.parquet")
    liked = measured["verifier_score"].to_numpy()
    by_verifier = logit(liked) - logit(liked - measured["verifier_gain"].to_numpy())
    least = np.minimum(by_verifier, measured["score_gain_judge"].to_numpy())
    again = pd.read_parquet(folder / "gate/ideal.parquet")
    assert again["gain"].to_numpy() == pytest.approx(least, abs=1e-3)
    fewer = decided["accepted"].to_numpy() & (least > 0)
    assert (again["accepted"].to_numpy() == fewer).all() and 0 < fewer.sum() < decided["accepted"].sum()


def test_only_accepted_creatives_leave_the_run(folder, tmp_path):
    accepted = pd.read_parquet(folder / "gate/ideal.parquet").query("accepted")
    told = CliRunner().invoke(
        cli, ["export", "--run", str(folder), "--to", str(tmp_path), "--name", "shop", "--images"]
    )
    assert told.exit_code == 0, told.output
    assert f"({len(accepted)} of 40 creatives" in told.output
    manifest = pd.read_csv(tmp_path / "shop/creatives/manifest.csv", dtype=str)
    pairs = ["user_id", "item_id"]
    assert manifest[pairs].to_numpy().tolist() == accepted[pairs].to_numpy().tolist()
    for row in manifest.itertuples():
        with Image.open(tmp_path / "shop/creatives" / row.path) as image:
            image.load()
            assert b"trainedAlgorithmicMedia" in image.info["xmp"]
            assert recipe_hash(image.info["recgen"]) == row.recipe_sha256
            assert row.recipe_sha256.encode() in image.info["xmp"]
    run = RunContext(load_config(str(folder / "config.yaml")), folder)
    rows, made = creatives(run, "ideal")
    shown = pd.MultiIndex.from_frame(rows[pairs]).isin(pd.MultiIndex.from_frame(accepted[pairs]))
    own = dict(zip(*run.features("image"), strict=True))
    for item, feature in zip(_ids(tmp_path), np.load(tmp_path / "shop/shop.image.npy"), strict=True):
        mine = shown & (rows["item_id"] == item).to_numpy()
        mean = made[mine].mean(axis=0) if mine.any() else own[item]
        np.testing.assert_allclose(feature, (own[item] + mean) / 2, rtol=1e-5, err_msg=item)
    assert 0 < shown.sum() < len(shown)
    everything = CliRunner().invoke(
        cli, ["export", "--run", str(folder), "--to", str(tmp_path), "--name", "all", "--images", "--all"]
    )
    assert everything.exit_code == 0 and len(pd.read_csv(tmp_path / "all/creatives/manifest.csv")) == 40


def _ids(folder):
    return (folder / "shop/shop.image.ids.txt").read_text().split()


def test_a_run_that_has_not_come_to_the_gate_is_not_exported_unasked(folder, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "gate")
    from recgen.export import export

    with pytest.raises(UserError, match=r"no gate/ideal.parquet; .*--until gate.*--all"):
        export(str(copy), str(tmp_path / "data"), "shop")


def test_controls_are_not_said_to_be_drawn_by_a_model(folder):
    manifest = pd.read_parquet(folder / "creatives/manifest.parquet")
    with Image.open(folder / manifest["path"].iloc[0]) as image:
        assert b"trainedAlgorithmicMedia" in image.info["xmp"]
    control = next((folder / "creatives/images/control.original").glob("*.png"))
    with Image.open(control) as image:
        assert "xmp" not in image.info and "recgen" in image.info


def test_a_file_that_is_no_image_or_shows_nothing_is_unsound(tmp_path):
    Image.new("RGB", (8, 8), (40, 40, 41)).save(tmp_path / "flat.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "flat.png").read_bytes()[:40])
    spot = Image.new("RGB", (8, 8))
    spot.putpixel((3, 3), (0, 200, 0))
    spot.save(tmp_path / "spot.png")
    found = {
        name: sound_image(tmp_path / f"{name}.png") is not None for name in ("flat", "cut", "spot", "none")
    }
    assert found == {"flat": False, "cut": False, "spot": True, "none": False}
