"""Likes and dislikes as data of their own, and the encounters that no ranker was trained on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recgen.core.seeding import seed_for
from recgen.recommender import feedback, unseen
from recgen.recommender.recbole import recbole_config

ITEMS = pd.DataFrame({"item_id": [f"i{n}" for n in range(1, 7)]})


def interactions(*rows: tuple[str, str, bool, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user_id", "item_id", "like", "split"])


def test_a_model_of_labels_is_one_without_sampled_negatives(tmp_path, splits):
    from recbole.model.context_aware_recommender import LR
    from recbole.model.general_recommender import BPR

    splits([("a", "i1", 1.0)])
    keys = {"dataset": "toy", "data_path": str(tmp_path), "use_gpu": False}
    sampled = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
    none = {"train_neg_sample_args": None}
    for model, more, expected in (
        (LR, none, True),
        (LR, sampled, False),
        (BPR, sampled, False),
        (BPR, none, False),
    ):
        assert feedback.is_pointwise(recbole_config(model, {**keys, **more})) == expected


def test_keys_about_the_data_to_rank_are_left_out(tmp_path):
    given = {
        "epochs": 7,
        "metrics": ["Recall"],
        "load_col": {"inter": ["user_id"]},
        "train_neg_sample_args": None,
    }
    keys = feedback.recbole_keys(given, {"epochs": 9}, tmp_path / "likes")
    assert keys["epochs"] == 9 and "metrics" not in keys and "train_neg_sample_args" not in keys
    assert keys["show_progress"] is False and keys["threshold"] is None and keys["LABEL_FIELD"] == "label"
    assert (keys["dataset"], keys["data_path"]) == ("likes", str(tmp_path))
    assert keys["load_col"]["inter"] == ["user_id", "item_id", "label"]


def test_held_out_and_stopping_tenths_come_back_as_tokens(splits):
    parts = splits(
        [("a", "i1", 1.0)],
        valid=[("b", "i3", 0.0), ("a", "i2", 1.0)],
        test=[("b", "i1", 0.5), ("a", "i3", 1.0)],
    )
    found = feedback.held_out(parts)
    assert found.to_dict("list") == {"user_id": ["b", "a"], "item_id": ["i1", "i3"], "like": [False, True]}
    both = unseen.of_pointwise(parts)
    assert both["item_id"].tolist() == ["i3", "i2", "i1", "i3"] and both["user_id"].tolist() == [
        "b",
        "a",
        "b",
        "a",
    ]
    assert both["like"].tolist() == [False, True, False, True] and both.index.tolist() == [0, 1, 2, 3]


def read(folder, ending: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{folder.name}.{ending}", sep="\t")


def test_what_is_written_leaves_out_the_test_likes(tmp_path):
    rows = interactions(("a", "i1", True, "train"), ("a", "i2", False, "valid"), ("b", "i3", True, "test"))
    feedback.write_data(tmp_path / "x", rows, ITEMS, seed=3)
    labels = read(tmp_path / "x", "inter")
    assert labels.to_dict("list") == {
        "user_id:token": ["a", "a"],
        "item_id:token": ["i1", "i2"],
        "label:float": [1.0, 0.0],
    }
    assert read(tmp_path / "x", "user")["user_id:token"].tolist() == ["a", "b"]
    assert read(tmp_path / "x", "item")["item_id:token"].tolist() == ITEMS["item_id"].tolist()


def test_items_not_met_stand_in_where_nobody_dislikes_anything(tmp_path):
    rows = interactions(
        ("a", "i1", True, "train"), ("a", "i2", True, "valid"), ("b", "i3", True, "train"), ("b", "i4", True, "test")
    )  # fmt: skip
    drawn = set()
    for seed in range(30):
        feedback.write_data(tmp_path / f"x{seed}", rows, ITEMS, seed)
        labels = read(tmp_path / f"x{seed}", "inter")
        dislikes = labels[labels["label:float"] == 0]
        assert dislikes["user_id:token"].tolist() == ["a", "a", "b"]
        mine = dislikes.loc[dislikes["user_id:token"] == "a", "item_id:token"]
        assert len(set(mine)) == 2 and not set(mine) & {"i1", "i2"}
        drawn |= set(dislikes.loc[dislikes["user_id:token"] == "b", "item_id:token"])
    assert drawn == {"i1", "i2", "i4", "i5", "i6"}, "the test item is among those that may be drawn"


def place_of(user: str, item: str, seed: int) -> int:
    """By whole numbers of Python's: splitmix64 of the user's seed and of splitmix64 of the item's."""

    def mixed(state: int) -> int:
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = (state ^ (state >> shift)) * factor % 2**64
        return state ^ (state >> 31)

    own, other = seed_for(seed, "unseen dislikes", user), seed_for(seed, "unseen dislikes", item=item)
    return mixed((own + mixed(other)) % 2**64)


def test_validation_likes_stand_beside_own_dislikes_or_items_not_met():
    rows = interactions(
        ("a", "i1", True, "valid"), ("a", "i2", False, "train"), ("a", "i3", False, "train"), ("a", "i4", False, "train"),
        ("b", "i1", True, "train"), ("b", "i2", True, "valid"), ("b", "i3", True, "valid"),
        ("c", "i4", True, "test"), ("c", "i5", False, "train"), ("a", "i6", True, "test"), ("d", "i1", False, "valid"),
    )  # fmt: skip
    firsts = set()
    for seed in range(20):
        found = unseen.of_ranking(rows, ITEMS, seed)
        assert found.columns.tolist() == ["user_id", "item_id", "like"] and found.index.tolist() == list(
            range(6)
        )
        likes, dislikes = found[found["like"]], found[~found["like"].astype(bool)]
        assert list(zip(likes["user_id"], likes["item_id"], strict=True)) == [
            ("a", "i1"),
            ("b", "i2"),
            ("b", "i3"),
        ]
        assert dislikes["user_id"].tolist() == ["a", "b", "b"]
        order = sorted(["i2", "i3", "i4"], key=lambda item: place_of("a", item, seed))
        assert dislikes["item_id"].iloc[0] == order[0]
        firsts.add(order[0])
        assert len(set(dislikes["item_id"].iloc[1:])) == 2
        assert not set(dislikes["item_id"].iloc[1:]) & {"i1", "i2", "i3"}
    assert firsts == {"i2", "i3", "i4"}


def test_a_user_with_fewer_dislikes_than_likes_gives_all_of_them():
    rows = interactions(
        ("a", "i1", True, "valid"), ("a", "i2", True, "valid"), ("a", "i3", False, "train"), ("a", "i4", False, "test")
    )  # fmt: skip
    found = unseen.of_ranking(rows, ITEMS, 0)
    assert found["item_id"].tolist() == ["i1", "i2", "i3"], "the test dislike is not known"


def test_negatives_are_items_of_the_catalogue_that_the_user_has_not_met():
    from recgen.recommender.negatives import sample_negatives

    known = pd.DataFrame({"user_id": ["a", "b", "z", "a"], "item_id": ["i1", "i1", "i2", "gone"]})
    drawn = {"a": set(), "b": set()}
    for seed in range(40):
        found = sample_negatives(known, np.array(["a", "b"]), [2, 9], ITEMS, seed, "s")
        assert found["user_id"].tolist() == ["a"] * 2 + ["b"] * 5 and not found["like"].any()
        for user in "ab":
            mine = found.loc[found["user_id"] == user, "item_id"]
            assert len(set(mine)) == len(mine)
            drawn[user] |= set(mine)
    assert drawn["a"] == drawn["b"] == {"i2", "i3", "i4", "i5", "i6"}
    same = sample_negatives(known, np.array(["b"]), [3], ITEMS, 5, "s")["item_id"].tolist()
    assert (
        same == sample_negatives(known, np.array(["a", "b"]), [2, 3], ITEMS, 5, "s")["item_id"].tolist()[2:]
    )
    assert same != sample_negatives(known, np.array(["b"]), [3], ITEMS, 5, "other")["item_id"].tolist()


def test_the_test_likes_are_ranked_in_the_ids_of_the_labels(tmp_path, splits):
    from recbole.model.general_recommender import BPR

    likes = splits(
        [("b", "i2", 1.0), ("a", "i1", 1.0), ("b", "i4", 1.0)],
        valid=[("a", "i3", 1.0)],
        test=[("a", "i2", 1.0), ("b", "i1", 1.0)],
    )
    labelled = splits(
        [("a", "i3", 0.0), ("b", "i1", 1.0), ("a", "i2", 1.0), ("a", "i1", 1.0), ("b", "i4", 1.0)]
    )
    keys = {"dataset": "toy", "data_path": str(tmp_path), "use_gpu": False, "topk": [1]}
    loader = feedback.ranking_test(recbole_config(BPR, keys), likes, labelled)
    rows, whole = loader.dataset.inter_feat, labelled.whole
    pairs = zip(
        whole.id2token("user_id", rows["user_id"].numpy()),
        whole.id2token("item_id", rows["item_id"].numpy()),
        strict=True,
    )
    assert sorted(pairs) == [("a", "i2"), ("b", "i1")]


@pytest.mark.parametrize("part", ["train", "valid"])
def test_renumbering_keeps_who_met_what(splits, part):
    likes = splits([("b", "i2", 1.0), ("a", "i1", 1.0)], valid=[("a", "i3", 1.0)])
    labelled = splits([("a", "i3", 0.0), ("b", "i1", 1.0), ("a", "i2", 1.0)])
    moved = feedback._renumbered(likes.whole, getattr(likes, part), labelled.whole)
    field = moved.inter_feat
    found = [
        (labelled.whole.id2token("user_id", u), labelled.whole.id2token("item_id", i))
        for u, i in zip(field["user_id"].tolist(), field["item_id"].tolist(), strict=True)
    ]
    assert found == {"train": [("b", "i2"), ("a", "i1")], "valid": [("a", "i3")]}[part]
