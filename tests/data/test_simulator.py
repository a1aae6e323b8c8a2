"""The simulator: what it writes, and that its log is the truth's."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from recgen.core.errors import UserError
from recgen.data.simulation.attributes import COLOURS, GROUNDS, MOTIFS, PATTERNS, SIZES
from recgen.data.simulation.simulator import (
    LIKE_RATE,
    Truth,
    World,
    draw_interactions,
    draw_truth,
    simulate,
    true_auc,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "sim"
    simulate(out, World(15, 40, 20), seed=3)
    return out


@pytest.fixture(scope="module")
def large() -> tuple[Truth, pd.DataFrame]:
    truth = draw_truth(World(400, 1000), seed=3)
    return truth, draw_interactions(truth, 3, World(400, 1000))


def read(folder: Path, suffix: str) -> pd.DataFrame:
    return pd.read_csv(
        folder / f"{folder.name}.{suffix}", sep="\t", dtype={"user_id:token": str, "item_id:token": str}
    )


def logged(truth: Truth, log: pd.DataFrame) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Users, attributes and likes of a log."""
    return (
        log["user_id:token"].tolist(),
        truth.attributes_of(log["item_id:token"]),
        (log["rating:float"] >= 4).to_numpy(),
    )


def test_writes_files_that_recbole_reads(folder: Path) -> None:
    from recbole.config import Config
    from recbole.data import create_dataset

    columns = {
        "inter": ["user_id", "item_id", "rating", "timestamp"],
        "item": ["item_id", "title"],
        "user": ["user_id"],
    }
    settings = {"data_path": str(folder.parent), "load_col": columns}
    dataset = create_dataset(Config(model="BPR", dataset="sim", config_dict=settings))
    assert (dataset.user_num, dataset.item_num, dataset.inter_num) == (16, 41, 300)
    assert set(dataset.inter_feat["rating"].tolist()) == {1.0, 5.0}


def test_every_item_has_its_image(folder: Path) -> None:
    items = read(folder, "item")["item_id:token"]
    assert sorted(path.stem for path in (folder / "images").iterdir()) == sorted(items)
    for item in items[:5]:
        with Image.open(folder / f"images/{item}.png") as image:
            assert (image.mode, image.size) == ("RGB", (64, 64))


def test_texts_name_content_and_never_style(folder: Path) -> None:
    truth, style = Truth.load(folder / "simulator"), {*COLOURS, *GROUNDS, *PATTERNS}
    table = read(folder, "item")
    for text, (motif, *_) in zip(
        table["title:token_seq"], truth.attributes_of(table["item_id:token"]), strict=True
    ):
        words = set(re.findall(r"\w+", text.lower()))
        assert words & set(MOTIFS) == {MOTIFS[motif]}
        assert not words & style


def test_users_meet_an_item_once_and_time_goes_on(folder: Path) -> None:
    log = read(folder, "inter")
    assert not log.duplicated(["user_id:token", "item_id:token"]).any()
    assert (log.groupby("user_id:token").size() == 20).all()
    assert all(
        times.is_monotonic_increasing and times.is_unique
        for _, times in log.groupby("user_id:token")["timestamp:float"]
    )


def test_same_seed_same_bytes_other_seed_other_data(folder: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "sim", World(15, 40, 20), seed=3)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(files) == 3 + 40 + 2
    assert all((folder / name).read_bytes() == (tmp_path / "sim" / name).read_bytes() for name in files)
    other = draw_truth(World(15, 40), seed=4)
    assert not np.array_equal(other.item_attributes, Truth.load(folder / "simulator").item_attributes)


def test_a_user_does_not_depend_on_how_many_there_are() -> None:
    few, many = draw_truth(World(5, 30), seed=3), draw_truth(World(50, 300), seed=3)
    images = np.random.default_rng(0).integers(SIZES, size=(20, 4))
    np.testing.assert_allclose(few.utility(["u4"] * 20, images), many.utility(["u4"] * 20, images))
    np.testing.assert_array_equal(few.item_attributes, many.item_attributes[:30])


def test_utility_is_intercept_plus_content_plus_style(folder: Path) -> None:
    truth = Truth.load(folder / "simulator")
    row = truth.user_ids.index("u7")
    motif, colour, ground, pattern = 5, 2, 6, 4
    style = truth.style[row, 0]
    expected = (
        truth.intercept[row] + truth.content[row, motif] + style[colour] + style[len(COLOURS) + ground]
        + style[len(COLOURS) + len(GROUNDS) + pattern]
    )  # fmt: skip
    image = np.array([[motif, colour, ground, pattern]])
    assert truth.utility(["u7"], image)[0] == pytest.approx(expected)
    assert truth.probability(["u7"], image)[0] == pytest.approx(1 / (1 + np.exp(-expected)))


def test_likes_follow_the_truth(large: tuple[Truth, pd.DataFrame]) -> None:
    """Calibration: in each tenth of predicted probability, the share of likes is the probability (40,000 encounters)."""
    truth, log = large
    users, attributes, likes = logged(truth, log)
    probability = truth.probability(users, attributes)
    for rows in np.array_split(np.argsort(probability), 10):
        expected = probability[rows].mean()
        error = np.sqrt(expected * (1 - expected) / len(rows))
        assert abs(likes[rows].mean() - expected) < 4 * error


def test_users_like_a_third_and_differ(large: tuple[Truth, pd.DataFrame]) -> None:
    truth, _ = large
    every = np.stack([truth.probability([user] * 1000, truth.item_attributes) for user in truth.user_ids])
    assert every.mean() == pytest.approx(LIKE_RATE, abs=0.02)
    assert 0.02 < every.mean(axis=1).std() < 0.08
    likeness = np.corrcoef(every)[~np.eye(400, dtype=bool)]
    assert likeness.mean() < 0.4, "tastes are different"
    assert every.std(axis=1).mean() > 0.2, "tastes are strong"


def test_a_world_can_have_users_who_like_little() -> None:
    """Then what they like best stands out: ten items in the order of the truth hold many more of their likes than any ten."""
    share = {}
    for rate in (LIKE_RATE, 0.05):
        truth = draw_truth(World(60, 500, like_rate=rate), seed=3)
        chances = [truth.probability([user] * 500, truth.item_attributes) for user in truth.user_ids]
        assert np.mean(chances) == pytest.approx(rate, rel=0.1)
        share[rate] = np.mean([np.sort(each)[-10:].sum() / each.sum() for each in chances])
    assert share[LIKE_RATE] < 0.06 < 0.15 < share[0.05]


def test_true_auc_equals_scikit_learns(large: tuple[Truth, pd.DataFrame]) -> None:
    truth, log = large
    users, attributes, likes = logged(truth, log)
    auc = true_auc(truth, users, attributes, likes)
    assert auc == pytest.approx(roc_auc_score(likes, truth.probability(users, attributes)))
    assert 0.75 < auc < 0.95
    assert np.isnan(true_auc(truth, users[:1], attributes[:1], likes[:1]))


def test_one_style_taste_per_class_of_motifs() -> None:
    truth = draw_truth(World(20, 10, tastes_per_user=2), seed=3)
    looks = np.array([[motif, colour, 0, 0] for motif in (0, 2, 1, 3) for colour in range(10)])
    utility = np.stack([truth.utility([user] * 40, looks) for user in truth.user_ids]).reshape(20, 4, 10)
    taste = utility - utility.mean(axis=2, keepdims=True)
    np.testing.assert_allclose(taste[:, 0], taste[:, 1], atol=1e-9)
    np.testing.assert_allclose(taste[:, 2], taste[:, 3], atol=1e-9)
    assert np.abs(taste[:, 0] - taste[:, 2]).mean() > 0.3


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"users": 0}, "users"),
        ({"items": 10, "interactions_per_user": 11}, "11 of 10 items"),
        ({"tastes_per_user": 0}, "tastes"),
        ({"newcomers": 1.5}, "newcomers"),
        ({"interaction": -0.1}, "interaction"),
        ({"like_rate": 0.0}, "like_rate"),
    ],
)
def test_impossible_numbers_are_refused(numbers: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        simulate(
            tmp_path / "sim",
            World(**{"users": 2, "items": 20, "interactions_per_user": 5, **numbers}),
            seed=1,
        )
    assert not (tmp_path / "sim").exists()


def test_strangers_and_empty_folders_are_named(folder: Path, tmp_path: Path) -> None:
    truth = Truth.load(folder / "simulator")
    with pytest.raises(UserError, match="nobody"):
        truth.utility(["nobody"], np.zeros((1, 4), dtype=int))
    with pytest.raises(UserError, match=r"truth\.safetensors"):
        Truth.load(tmp_path)
