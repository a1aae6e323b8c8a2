"""The downstream stage: controls, baselines, and models other than the judge's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from recgen.config import plugins
from recgen.config.loader import load_config
from recgen.core.errors import UserError
from recgen.core.io import read_features
from recgen.pipeline import pipeline
from recgen.pipeline.context import RunContext
from recgen.recommender.baselines import baselines, expected_metrics
from recgen.stages import downstream, draws, rerank
from recgen.stages.downstream import control_features

PLUGIN = '''
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from ranking_models.features import load_item_features


class Pictures(GeneralRecommender):
    """Users times a map of item images, nothing of ours but the reading of the file."""

    input_type = InputType.PAIRWISE

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.register_buffer("images", load_item_features(config, dataset)["image"], persistent=False)
        self.user = torch.nn.Embedding(self.n_users, 4)
        self.map = torch.nn.Linear(self.images.shape[1], 4)

    def features(self, modality):
        return self.images

    def calculate_loss(self, interaction):
        user, items = self.user(interaction["user_id"]), self.map(self.images)
        difference = items[interaction["item_id"]] - items[interaction["neg_item_id"]]
        return -torch.nn.functional.logsigmoid((user * difference).sum(1)).mean()

    def predict(self, interaction):
        return (self.user(interaction["user_id"]) * self.map(self.images[interaction["item_id"]])).sum(1)

    def full_sort_predict(self, interaction):
        return (self.user(interaction["user_id"]) @ self.map(self.images).T).reshape(-1)


class Blind(GeneralRecommender):
    """Reads nothing."""

    input_type = InputType.PAIRWISE
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """A package that adds two ranking models by entry points, as an installed one would."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "pictures-1.0.dist-info").mkdir()
    (folder / "pictures-1.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: pictures\nVersion: 1.0\n"
    )
    (folder / "pictures-1.0.dist-info/entry_points.txt").write_text(
        "[recgen.ranking_models]\nPictures = pictures_model:Pictures\nBlind = pictures_model:Blind\n"
    )
    (folder / "pictures_model.py").write_text(PLUGIN)
    sys.path.insert(0, str(folder))
    plugins._installed.cache_clear()
    yield folder
    sys.path.remove(str(folder))
    plugins._installed.cache_clear()


SMALL = {"seeds": 2, "items": 3, "rerank": {"users": 2, "negatives": 10}}
SOURCES = ["ORI", "SHUFFLED", "NONE", "RANDOM", "toy", "swapped.toy", "dealt.toy"]


def finish(config: Path, folder: Path, *overrides: str) -> tuple[RunContext, dict]:
    run = RunContext(load_config(str(config), overrides), folder)
    pipeline.execute(run, until="downstream")
    return run, json.loads((folder / "metrics.json").read_text())


def results(run: RunContext, source: str, seed: int = 0) -> dict[str, float]:
    return json.loads((run.folder / f"downstream/{source}/{seed}/results.json").read_text())


@pytest.fixture(scope="module")
def vbpr(tmp_path_factory, write_config) -> tuple[RunContext, dict]:
    """A run whose judge is VBPR, to the end of its downstream stage."""
    folder = tmp_path_factory.mktemp("vbpr")
    return finish(write_config(folder, ranker={"judge": "VBPR", "reward": "VBPR"}), folder / "run")


def test_controls_are_trained_beside_the_originals_and_tested_against_them(vbpr):
    run, metrics = vbpr
    assert list(metrics["downstream"]) == [*SOURCES, "CONSTANT"]
    assert set(metrics["downstream"]["SHUFFLED"]) == {"recall@10", "ndcg@10"}
    pairs = [(t["a"], t["b"], t["metric"]) for t in metrics["tests"]["paired"] if "@" in t["metric"]]
    assert ("SHUFFLED", "ORI", "ndcg@10") in pairs and ("NONE", "ORI", "ndcg@10") in pairs
    against = {b for a, b, _ in pairs if a == "toy"}
    assert against == {*SOURCES, "CONSTANT"} - {"toy"}
    assert {a for a, b, _ in pairs if b == "ORI"} == {"toy", "SHUFFLED", "NONE", "RANDOM", "CONSTANT"}
    kept = {path.parent.parent.name for path in run.folder.glob("downstream/*/0/model.safetensors")}
    assert kept == {
        "ORI",
        "NONE",
    }  # lists are ranked again by the one, and have their negatives from the other


def test_controls_can_be_left_out_without_training_the_originals_again(vbpr, write_config, tmp_path):
    run, _ = vbpr
    ranker = {"judge": "VBPR", "reward": "VBPR"}
    config = write_config(tmp_path, ranker=ranker, downstream={**SMALL, "controls": False, "rerank": None})
    before = pipeline.fingerprints(pipeline.tasks(run), run.settings.seed)
    other = RunContext(load_config(str(config)), run.folder)
    after = pipeline.fingerprints(pipeline.tasks(other), other.settings.seed)
    gone = ("SHUFFLED", "NONE", "slates", "reranked")
    assert set(before) - set(after) == {f"downstream/{name}/{turn}" for name in gone for turn in (0, 1)}
    assert after["downstream/ORI/0"] == before["downstream/ORI/0"]


def test_control_features_say_nothing_about_their_items():
    features = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    shuffled = control_features("SHUFFLED", features, 1, 0)
    assert (shuffled != features).any(axis=1).mean() > 0.9
    assert sorted(shuffled.tolist()) == sorted(features.tolist())
    assert (control_features("SHUFFLED", features, 1, 0) == shuffled).all()
    assert (control_features("SHUFFLED", features, 1, 1) != shuffled).any()
    none = control_features("NONE", features, 1, 0)
    assert (
        (none == none[0]).all() and np.allclose(none[0], features.mean(axis=0)) and none.dtype == np.float32
    )


def drawn(scores: np.ndarray, relevant: np.ndarray, k: int) -> tuple[float, float]:
    """Recall and NDCG by their definition, averaged over drawn orders of equal scores."""
    rng, found = np.random.default_rng(0), []
    ideal = sum(1 / np.log2(place + 2) for place in range(min(k, int(relevant.sum()))))
    for _ in range(20_000):
        order = np.lexsort((rng.random(len(scores)), -scores))[:k]
        gains = [1 / np.log2(place + 2) for place, item in enumerate(order) if relevant[item]]
        found.append((len(gains) / relevant.sum(), sum(gains) / ideal))
    return tuple(np.mean(found, axis=0))


@pytest.mark.parametrize("k", [3, 10])
def test_expected_metrics_are_means_over_orders_of_equal_scores(k):
    scores, relevant = np.array([2.0, 1, 1, 1, 0, 0, 5]), np.zeros(7, dtype=bool)
    relevant[[1, 4, 6]] = True
    assert expected_metrics(scores, relevant, k) == pytest.approx(drawn(scores, relevant, k), abs=0.01)
    assert expected_metrics(np.zeros(20), np.arange(20) < 2, 10)[0] == pytest.approx(0.5)


def test_baselines_use_the_candidates_that_models_are_tested_on(vbpr):
    """RecBole's own evaluation of a model that ranks by popularity, with small differences in place of ties."""
    from recbole.model.general_recommender import BPR

    run, metrics = vbpr
    found = metrics["downstream_baselines"]
    assert found == baselines(run.split)
    assert 10 / 30 < found["chance"]["recall@10"] < 1
    config = run.recbole_config("BPR", {"topk": [10], "metric_decimal_place": 12})
    from recgen.recommender.recbole import loaders
    from recgen.recommender.training import build, trainer_for

    data = loaders(config, run.split)
    model = build(config, data.train.dataset)
    assert isinstance(model, BPR)
    counts = np.bincount(run.split.train.inter_feat["item_id"].numpy(), minlength=model.n_items)
    values = []
    for seed in range(200):
        noise = np.random.default_rng(seed).random(model.n_items) * 0.5
        values.append(_recall(model, trainer_for, config, data, counts + noise))
    assert np.mean(values) == pytest.approx(found["popularity"]["recall@10"], abs=0.02)


def _recall(model, trainer_for, config, data, scores: np.ndarray) -> float:
    import torch

    fixed = torch.as_tensor(scores, dtype=torch.float32)
    model.full_sort_predict = lambda interaction: fixed.repeat(len(interaction))
    trainer = trainer_for(config, model)
    trainer.eval_collector.data_collect(data.train)
    return trainer.evaluate(data.test, load_best_model=False)["recall@10"]


@pytest.mark.parametrize("name", ["BPR", "LightGCN", "NGCF", "SGL"])
def test_recboles_own_models_are_downstream_models(name, write_config, tmp_path):
    """They read no images, so every source is one and the same training."""
    run, metrics = finish(
        write_config(tmp_path, downstream={**SMALL, "seeds": 1, "model": name}), tmp_path / "run"
    )
    assert metrics["run"]["downstream"]["model"] == name
    assert results(run, "toy") == results(run, "SHUFFLED") == results(run, "NONE") == results(run, "ORI")
    assert 0 <= results(run, "ORI")["recall@10"] <= 1
    assert "recall@10 reranked" not in metrics["downstream"]["ORI"]  # no image changes what it says


@pytest.mark.parametrize("role", ["reward", "judge", "verifier"])
def test_a_model_that_reads_no_images_cannot_judge_them(role, write_config, tmp_path):
    config = write_config(tmp_path, ranker={role: "LightGCN"})
    with pytest.raises(UserError, match=rf"ranker\.{role}.*LightGCN.*reads no images.*downstream\.model"):
        load_config(str(config))


def test_a_plugins_model_with_features_judges_rewards_and_is_retrained(plugin, write_config, tmp_path):
    config = write_config(
        tmp_path, ranker={"judge": "Pictures", "reward": "Pictures"}, downstream={**SMALL, "seeds": 1}
    )
    run, metrics = finish(config, tmp_path / "run")
    assert metrics["creatives"]["toy"]["delta_r_judge"]["n"] == 12
    assert results(run, "toy") != results(run, "ORI")
    reranked = {source: found.get("ndcg@10 reranked") for source, found in metrics["downstream"].items()}
    assert reranked["toy"] != reranked["ORI"] and reranked["toy"]["n"] == 1
    assert "model" in json.loads((run.folder / "ranker/judge/config.json").read_text())


def test_a_plugins_model_without_images_is_refused_before_anything_starts(plugin, write_config, tmp_path):
    run = RunContext(load_config(str(write_config(tmp_path, ranker={"judge": "Blind"}))), tmp_path / "run")
    with pytest.raises(UserError, match=r"ranker\.judge.*Blind.*reads no images"):
        pipeline.execute(run)
    assert not (tmp_path / "run/dataset").exists()


@pytest.mark.parametrize("role", ["reward", "judge"])
def test_a_model_that_scores_without_images_is_refused_before_anything_starts(role, write_config, tmp_path):
    run = RunContext(load_config(str(write_config(tmp_path, ranker={role: "BM3"}))), tmp_path / "run")
    with pytest.raises(UserError, match=rf"ranker\.{role}.*BM3.*training alone.*zero.*downstream\.model"):
        pipeline.execute(run)
    assert not (tmp_path / "run/dataset").exists()


def test_a_model_that_scores_without_images_is_retrained_with_them(write_config, tmp_path):
    settings = {"epochs": 2, "embedding_size": 8}
    run, metrics = finish(
        write_config(tmp_path, downstream={**SMALL, "seeds": 1, "model": "BM3", "settings": settings}),
        tmp_path / "run",
    )
    assert metrics["run"]["downstream"]["model"] == "BM3"
    trained = {
        source: (run.folder / f"downstream/{source}/0/model.safetensors").read_bytes()
        for source in ("ORI", "NONE")
    }
    assert trained["ORI"] != trained["NONE"]  # features act in training
    assert "recall@10 reranked" not in metrics["downstream"]["ORI"]  # and no image changes what it says


def test_each_user_is_measured_as_recbole_measures_all_of_them(vbpr):
    from recgen.recommender.training import build, trainer_for

    run, _ = vbpr
    training = downstream.prepared(run, 1, None)
    model = build(training.config, training.data.train.dataset)
    trainer = trainer_for(training.ranking, model)
    trainer.eval_collector.data_collect(training.data.train)
    whole = trainer.evaluate(training.test, load_best_model=False)
    found = training.measure(model)
    for key in ("recall@10", "ndcg@10"):
        assert found[key].mean() == pytest.approx(whole[key], abs=1e-9) and 0 < found[key].mean() < 1
    assert sorted(found["user_id"]) == sorted({request.user_id for request in run.requests})


def test_only_drawn_items_change_and_by_the_right_creatives(vbpr):
    run, _ = vbpr
    own = run.data.image_features
    rows, embeddings = draws.created(run, "toy", 0)
    drawn = draws.chosen(run, 0)
    assert drawn["item_id"].nunique() == 3 and set(drawn["kind"]) == {"own", "swapped"}
    moved = {}
    for source in ("RANDOM", "toy", "swapped.toy", "dealt.toy"):
        path = run.folder / f"downstream/{source}/0/image.safetensors"
        moved[source] = read_features(path)
        changed = np.flatnonzero((moved[source] != own).any(axis=1))
        assert {run.data.item_ids[row] for row in changed} == set(drawn["item_id"])
    for source, kind in (("toy", "own"), ("swapped.toy", "swapped")):
        for item in drawn["item_id"].unique():
            mine = (rows["kind"] == kind) & (rows["item_id"] == item)
            row = run.data.item_rows[item]
            expected = 0.5 * own[row] + 0.5 * embeddings[mine.to_numpy()].mean(axis=0)
            np.testing.assert_allclose(moved[source][row], expected, rtol=1e-5, atol=1e-6)
    at = [run.data.item_rows[item] for item in drawn["item_id"].unique()]
    given = {
        kind: {tuple(np.round(2 * moved[kind][row] - own[row], 3)) for row in at}
        for kind in ("toy", "dealt.toy")
    }
    assert given["toy"] == given["dealt.toy"]  # the same creatives, each on another item
    assert all((moved["toy"][row] != moved["dealt.toy"][row]).any() for row in at)


def test_every_item_of_a_list_shows_a_creative_of_the_user_or_of_the_partner(vbpr, monkeypatch):
    run, _ = vbpr
    rows = draws.candidates(run, 0)
    assert (
        rows.groupby("user_id")["relevant"].sum().eq(1).all() and (rows["user_id"] != rows["partner"]).all()
    )
    made, embeddings = draws.created(run, "toy", 0)
    asked = {}

    class Recorder:
        def score(self, users, items, shown):
            asked.setdefault("sources", []).append(shown)
            return torch.zeros(len(users))

        def score_original(self, users, items):
            return torch.zeros(len(users))

    monkeypatch.setattr(rerank, "trained_model", lambda *_: Recorder())
    before = (run.folder / "downstream/reranked/0.parquet").read_bytes()
    try:
        rerank.rank(run, 0)
        table = pd.read_parquet(run.folder / "downstream/reranked/0.parquet")
    finally:
        (run.folder / "downstream/reranked/0.parquet").write_bytes(before)
    size = rows.groupby("user_id").size().to_numpy()
    assert table.groupby("source")["recall@10"].mean().to_numpy() == pytest.approx(
        np.mean(np.minimum(10 / size, 1))
    )
    own, swapped = asked["sources"][2:]
    for place, row in enumerate(rows.to_dict("records")):
        for shown, user in ((own, row["user_id"]), (swapped, row["partner"])):
            mine = (made["kind"] == "slate") & (made["user_id"] == user) & (made["item_id"] == row["item_id"])
            assert mine.sum() == 1 and (shown[place] == embeddings[mine.to_numpy()][0]).all()
    constant = asked["sources"][1]
    assert (constant == constant[0]).all() and not (asked["sources"][0] == constant).all()
