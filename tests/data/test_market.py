"""The shop with a recommender and pictures of the simplest kind: what is dealt, clicked, logged and learned from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recgen.data.click_log import check
from recgen.data.simulation.click_models import Cascade, PositionBased
from recgen.data.simulation.market import Shop, Visits, base_utility, labels, play
from recgen.data.simulation.simulator import World, draw_truth
from recgen.metrics.ab_test import ab_test
from recgen.metrics.off_policy import arm_values

USERS, ITEMS = [f"u{n}" for n in range(30)], [f"i{n}" for n in range(14)]


class Alphabetical:
    """Ranks by name, the clicked ones first, and remembers how long the log was."""

    def __init__(self, log: pd.DataFrame) -> None:
        self.rows = len(log)
        self.clicked = set() if log.empty else set(log.loc[log["click"], "item_id"])

    def rank(self, users, candidates):
        return {
            user: sorted(candidates[user], key=lambda item: (item not in self.clicked, item))
            for user in users
        }

    def quality(self, users):
        return pd.DataFrame({"user_id": users, "recall@10": float(self.rows)})


def _arms(**utility):
    return {
        name: lambda users, items, u=u, name=name: (np.full(len(users), u), [name] * len(users))
        for name, u in utility.items()
    }


def _play(effect=1.0, seed=0, name="ab", clicks=None, arms=None, pages=2, rounds=2):
    shop = Shop(lambda users, items: np.full(len(users), -1.0), clicks or PositionBased(), effect)
    visits = Visits(dict.fromkeys(USERS, ITEMS), rounds, pages)
    return play(shop, arms or _arms(original=-1.0, own=1.0), Alphabetical, visits, seed, name)


def test_every_user_sees_every_arm_equally_often_in_an_order_of_chance():
    log = _play().log
    check(log, "the log")
    pages = log.drop_duplicates("page_id")
    assert (pages.groupby(["user_id", "round", "arm"]).size() == 2).all()
    assert len(pages) == 30 * 2 * 2 * 2 and (log["propensity"] == 0.5).all()
    first = pages.groupby(["user_id", "round"])["arm"].first()
    assert 0.3 < (first == "own").mean() < 0.7
    assert (log.groupby("page_id")["position"].apply(list).map(tuple) == tuple(range(1, 11))).all()


def test_clicks_come_as_expected_and_follow_taste_and_place():
    log = pd.concat([_play(seed=seed).log for seed in range(5)])
    attraction = {"original": 1 / (1 + np.e), "own": 1 / (1 + 1 / np.e)}
    expected = log["arm"].map(attraction) / log["position"]
    assert np.allclose(log["expected"], expected)
    for arm, rows in log.groupby("arm"):
        surplus = (rows["click"] - rows["expected"]).sum()
        assert abs(surplus) < 3.3 * np.sqrt((rows["expected"] * (1 - rows["expected"])).sum()), arm


def test_an_effect_of_zero_makes_every_picture_alike_and_a_half_lies_between():
    assert _play(effect=0.0).log["expected"].nunique() == 10, "the places alone"
    half = _play(effect=0.5).log
    top = half[half["position"] == 1].groupby("arm")["expected"].first()
    assert top["own"] == pytest.approx(0.5) and top["original"] == pytest.approx(1 / (1 + np.e))


def test_worlds_draw_their_clicks_independently_and_repeat_themselves():
    alone = _arms(own=1.0)  # with several arms, worlds would differ by their order already
    one, again, other = (_play(name=name, arms=alone) for name in ("ab", "ab", "cd"))
    pd.testing.assert_frame_equal(one.log, again.log)
    assert (one.log["click"].to_numpy() != other.log["click"].to_numpy()).any()


def test_a_users_pages_do_not_depend_on_who_else_comes():
    class Fixed(Alphabetical):
        def rank(self, users, candidates):
            return {user: sorted(candidates[user]) for user in users}

    shop = Shop(lambda users, items: np.full(len(users), -1.0), PositionBased())
    logs = [
        play(
            shop, _arms(original=-1.0, own=1.0), Fixed, Visits(dict.fromkeys(users, ITEMS), 2, 2), 0, "ab"
        ).log
        for users in (USERS, USERS[7:9])
    ]
    alone = [log[log["user_id"] == "u7"].reset_index(drop=True) for log in logs]
    pd.testing.assert_frame_equal(*alone)


def test_the_recommender_learns_from_the_log_so_far():
    world = _play(rounds=3)
    assert world.quality.groupby("round")["recall@10"].first().tolist() == [0.0, 1200.0, 2400.0, 3600.0]
    assert world.log["round"].unique().tolist() == [0, 1, 2]
    later = world.log[world.log["round"] == 2]
    never = set(ITEMS) - set(world.log.loc[world.log["click"] & (world.log["round"] < 2), "item_id"])
    assert not never & set(later.loc[later["position"] <= 5, "item_id"]), "what nobody clicked has sunk"


def test_a_cascade_clicks_once_a_page():
    log = _play(clicks=Cascade()).log
    assert log.groupby("page_id")["click"].sum().max() == 1


def test_the_ab_test_and_the_replay_find_the_truth_of_the_market():
    """The shop's own expectation is the truth, for both."""
    log = _play(pages=5).log
    truth = log.groupby("arm")["expected"].mean()
    found, values = ab_test(log, "original", 0)["own"]["uplift"], arm_values(log, 0)
    assert found["low"] < 10_000 * (truth["own"] - truth["original"]) < found["high"] and found["p"] < 0.01
    for arm in ("own", "original"):
        for estimator in ("ips", "snips", "replay"):
            assert values[arm][estimator]["low"] < truth[arm] < values[arm][estimator]["high"], (
                arm,
                estimator,
            )


def test_labels_are_clicks_and_what_was_skipped_above_the_last_click():
    log = pd.DataFrame({
        "user_id": ["a"] * 8, "page_id": list("11112222"), "item_id": list("wxyzwvuz"), "position": [1, 2, 3, 4] * 2,
        "click": [False, True, False, False, True, False, True, False],
    })  # fmt: skip
    found = labels(log).set_index("item_id")["like"].to_dict()
    assert found == {"w": True, "x": True, "v": False, "u": True}, (
        "w was skipped on one page and clicked on the other"
    )
    assert labels(log.iloc[:0]).empty and labels(log.assign(click=False)).empty


def test_base_utility_is_the_truths_without_style():
    truth = draw_truth(World(5, 6), seed=3)
    users, items = ["u1", "u2", "u5"], ["i3", "i1", "i6"]
    plain = draw_truth(World(5, 6), seed=3)
    plain.style[:] = 0
    assert np.allclose(base_utility(truth, users, items), plain.utility(users, plain.attributes_of(items)))
