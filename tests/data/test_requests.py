"""Requests by the papers' protocol and drawn blind to the test part."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recgen.core.errors import UserError
from recgen.core.seeding import seed_for
from recgen.data import requests


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    """Sixty users with 12 interactions each with 50 items, some far more popular than others; each user's last is the test."""
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, 51)
    rows = []
    for user in range(60):
        for turn, item in enumerate(rng.choice(50, 12, replace=False, p=weights / weights.sum())):
            split = "test" if turn == 11 else "valid" if turn == 10 else "none" if turn == 4 else "train"
            rows.append((f"u{user}", f"i{item}", split != "none", split))
    return pd.DataFrame(rows, columns=["user_id", "item_id", "like", "split"])


ITEMS = [f"i{n}" for n in range(50)]


def test_blind_requests_are_items_that_their_users_have_not_met(log):
    made = requests.blind(log, ITEMS, 3, count=10, per_item=4, users=None)
    known = log[log["split"] != "test"]
    met = set(zip(known["user_id"], known["item_id"], strict=True))
    assert not met & set(zip(made["user_id"], made["item_id"], strict=True))
    assert made.groupby("item_id").size().tolist() == [4] * 10
    liked = known[known["like"]].groupby("user_id")["item_id"].agg(list)
    assert all(row.history == liked[row.user_id][-20:] for row in made.itertuples())
    assert all(row.seed == seed_for(3, "request", row.user_id, row.item_id) for row in made.itertuples())


def test_the_test_part_decides_nothing(log):
    """Whatever users go on to like, the same images are asked for."""
    other = log.copy()
    test = other["split"] == "test"
    other.loc[test, "item_id"] = np.random.default_rng(1).permutation(other.loc[test, "item_id"].to_numpy())
    one, two = (requests.blind(each, ITEMS, 3, count=20, per_item=3, users=None) for each in (log, other))
    pd.testing.assert_frame_equal(one, two)


def test_items_come_from_every_fifth_of_popularity(log):
    made = requests.blind(log, ITEMS, 3, count=10, per_item=2, users=None)
    counts = (
        log[log["like"] & (log["split"] != "test")]["item_id"].value_counts().reindex(ITEMS, fill_value=0)
    )
    bands = pd.qcut(counts.rank(method="first"), 5, labels=False)
    chosen = bands[made["item_id"].unique()].value_counts()
    assert (
        len(chosen) == 5 and chosen.min() >= 1 and chosen.max() <= 3
    )  # ties at a border may fall to either side


def test_another_item_or_user_changes_no_other_request(log):
    few = requests.blind(log, ITEMS, 3, count=5, per_item=3, users=None)
    many = requests.blind(log, ITEMS, 3, count=10, per_item=3, users=None)
    asked = [set(zip(table["user_id"], table["item_id"], strict=True)) for table in (few, many)]
    assert asked[0] < asked[1]
    limited = requests.blind(log, ITEMS, 3, count=10, per_item=3, users=15)
    assert limited["user_id"].nunique() <= 15


def test_too_few_users_is_said(log):
    with pytest.raises(UserError, match=r"recgen.requests.*no two have not met"):
        requests.blind(log, ITEMS, 3, count=5, per_item=3, users=1)


def test_what_is_held_out_is_in_no_history_and_alike_for_a_users_requests(log):
    made = requests.blind(log, ITEMS, 3, count=20, per_item=4, users=None)
    found = requests.hold_out(made, log[log["like"]], 3, 0.5)
    known = log[(log["split"] != "test") & log["like"]].groupby("user_id")["item_id"].agg(list)
    assert found[["user_id", "item_id", "seed"]].equals(made[["user_id", "item_id", "seed"]])
    for row in found.itertuples():
        assert not set(row.history) & set(row.held_out)
        assert row.history == [item for item in known[row.user_id] if item not in row.held_out][-20:]
        assert abs(len(row.held_out) - len(known[row.user_id]) / 2) <= 0.5
    assert found.groupby("user_id")["held_out"].agg(lambda own: len(set(map(tuple, own)))).max() == 1
    assert (found.groupby("user_id").size() > 1).any()


def test_no_like_after_the_reference_is_held_out(log):
    """By the papers' protocol the history ends before the reference, which is in neither part."""
    likes = log[log["like"]]
    made = requests.last_likes(likes, 3, None)
    found = requests.hold_out(made, likes, 3, 0.4)
    for before, row in zip(made.itertuples(), found.itertuples(), strict=True):
        assert sorted([*row.history, *row.held_out]) == sorted(before.history)
        assert row.item_id not in [*row.history, *row.held_out]
