"""Whom the downstream stage draws for, and which lists it ranks again."""

from __future__ import annotations

import numpy as np
import pandas as pd

from recgen.data import draws, slates

ITEMS = [f"i{item}" for item in range(40)]


def log(test_seed: int = 0) -> pd.DataFrame:
    """Thirty users with eight training likes, a validation like, a dislike and a test like, which alone the seed changes."""
    rng, rows = np.random.default_rng(7), []
    tests = np.random.default_rng(test_seed)
    for user in range(30):
        chosen = rng.permutation(40)
        for place, item in enumerate(chosen[:10]):
            split = "train" if place < 8 else ("valid" if place == 8 else "none")
            rows.append((f"u{user}", f"i{item}", place < 9, split))
        rows.append((f"u{user}", f"i{tests.choice(chosen[10:])}", True, "test"))
    return pd.DataFrame(rows, columns=["user_id", "item_id", "like", "split"])


def test_own_creatives_are_for_training_likers_and_swapped_ones_for_users_who_have_not_met_the_item():
    table = log()
    found = draws.draw(table, ITEMS, seed=3, turn=0, count=12, per_item=3)
    liked = set(zip(*table.loc[table["split"] == "train", ["user_id", "item_id"]].to_numpy().T, strict=True))
    met = set(zip(*table.loc[table["split"] != "test", ["user_id", "item_id"]].to_numpy().T, strict=True))
    pairs = {
        kind: set(zip(rows["user_id"], rows["item_id"], strict=True)) for kind, rows in found.groupby("kind")
    }
    assert pairs["own"] <= liked and not pairs["swapped"] & met
    assert found["item_id"].nunique() == 12
    sizes = found.groupby(["item_id", "kind"]).size().unstack()
    assert (sizes["own"] == sizes["swapped"]).all() and sizes["own"].between(1, 3).all()
    training = table[table["split"] == "train"].groupby("user_id")["item_id"].agg(list)
    for row in found.to_dict("records"):
        assert list(row["history"]) == [item for item in training[row["user_id"]] if item != row["item_id"]]


def test_a_draw_does_not_see_the_test_part_and_every_draw_is_another():
    first, other = log(0), log(1)
    assert not first.equals(other)
    pd.testing.assert_frame_equal(*(draws.draw(table, ITEMS, 3, 0, 12, 3) for table in (first, other)))
    items = [set(draws.draw(first, ITEMS, 3, turn, 12, 3)["item_id"]) for turn in (0, 1)]
    assert items[0] != items[1]


def test_drawn_items_are_of_all_heights_of_popularity():
    table = log()
    popularity = table[table["split"] == "train"]["item_id"].value_counts()
    found = draws.draw(table, ITEMS, 3, 0, 10, 1)["item_id"].unique()
    bands = np.array_split(np.sort(popularity.reindex(ITEMS, fill_value=0).to_numpy()), 5)
    drawn = np.sort(popularity[found].to_numpy()).reshape(5, 2)
    assert all(band[0] <= pair[0] and pair[1] <= band[-1] for band, pair in zip(bands, drawn, strict=True))


def scores(users: list[str]) -> np.ndarray:
    """A model that ranks items by their number, the highest first, the same for all."""
    return np.tile(np.arange(40.0), (len(users), 1))


def test_a_list_has_the_held_out_likes_of_two_users_and_the_hardest_items_that_neither_has_met():
    table = log()
    found = slates.slates(table, ITEMS, scores, seed=3, turn=0, users=9, negatives=10)
    assert found["user_id"].nunique() == 8  # in pairs
    reference = table[table["split"] == "test"].set_index("user_id")["item_id"]
    met = table[table["split"] != "test"].groupby("user_id")["item_id"].agg(set)
    everything = table.groupby("user_id")["item_id"].agg(set)
    for user, rows in found.groupby("user_id"):
        partner = rows["partner"].iloc[0]
        assert rows.loc[rows["relevant"], "item_id"].tolist() == [reference[user]]
        assert not set(rows["item_id"]) & met[user]
        free = [item for item in reversed(ITEMS) if item not in everything[user] | everything[partner]]
        negatives = set(rows["item_id"]) - {reference[user], reference[partner]}
        assert negatives == set(free[:10])
        assert set(found.loc[found["user_id"] == partner, "partner"]) == {user}


def test_every_candidate_is_asked_for_its_user_and_for_the_partner_once():
    table = log()
    found = slates.slates(table, ITEMS, scores, 3, 0, 4, 10)
    asked = slates.requests_of(found, table, 3, 0)
    pairs = list(zip(asked["user_id"], asked["item_id"], strict=True))
    wanted = set(zip(found["user_id"], found["item_id"], strict=True))
    wanted |= set(zip(found["partner"], found["item_id"], strict=True))
    assert sorted(pairs) == sorted(wanted) and asked["seed"].is_unique
    reference = table[table["split"] == "test"].set_index("user_id")["item_id"]
    assert all(reference[row["user_id"]] not in row["history"] for row in asked.to_dict("records"))
