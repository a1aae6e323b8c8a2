"""Off-policy estimates against hand-worked numbers, and their intervals against the truth of 200 simulated logs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recgen.data.simulation.click_models import PositionBased
from recgen.metrics.off_policy import (
    arm_values,
    doubly_robust,
    effective_sample_size,
    ips,
    predicted_rates,
    replay,
    snips,
    weights,
)

CLICKS, PROPENSITIES, USERS = [1, 0, 1, 1, 0], [0.5, 0.25, 0.5, 0.25, 0.5], list("aabbc")
SHOWN = [1, 1, 0, 1, 0]


def test_by_hand():
    given = (CLICKS, PROPENSITIES, SHOWN, USERS, 0)
    assert weights(PROPENSITIES, SHOWN).tolist() == [2, 4, 0, 4, 0]
    assert ips(*given).value == pytest.approx((2 * 1 + 4 * 0 + 4 * 1) / 5)
    assert snips(*given).value == pytest.approx((2 + 4) / (2 + 4 + 4))
    assert effective_sample_size([2, 4, 0, 4, 0]) == pytest.approx(100 / 36)
    half = [0.5] * 5
    assert replay(CLICKS, half, SHOWN, USERS, 0).value == pytest.approx(2 / 3)
    # a policy that chooses at random itself: pi / propensity = 0.3 / 0.5 and so on
    assert ips(CLICKS, half, [0.3, 0.7, 0.3, 0.7, 0.7], USERS, 0).value == pytest.approx(
        (0.6 + 0.6 + 1.4) / 5
    )


def test_doubly_robust_by_hand_and_where_one_of_the_two_is_wrong():
    shown, expected = [0.6, 0.2, 0.5, 0.3, 0.1], [0.7, 0.2, 0.4, 0.3, 0.5]
    found = doubly_robust(CLICKS, PROPENSITIES, SHOWN, shown, expected, USERS, 0).value
    terms = [0.7 + 2 * 0.4, 0.2 + 4 * -0.2, 0.4, 0.3 + 4 * 0.7, 0.5]
    assert found == pytest.approx(sum(terms) / 5)
    nothing = [0.0] * 5
    by_ips = ips(CLICKS, PROPENSITIES, SHOWN, USERS, 0).value
    assert doubly_robust(CLICKS, PROPENSITIES, SHOWN, nothing, nothing, USERS, 0).value == pytest.approx(
        by_ips
    )
    rng, n = np.random.default_rng(0), 40_000
    arm, second = rng.integers(0, 2, n), np.full(n, 0.5)
    click = (rng.random(n) < np.where(arm == 1, 0.7, 0.3)).astype(float)
    q = np.where(arm == 1, 0.7, 0.3)
    wrong = doubly_robust(click, np.full(n, 0.9), arm, q, np.full(n, 0.7), np.arange(n), 0)
    assert wrong.value == pytest.approx(0.7, abs=0.01), "right predictions, wrong propensities"
    off = doubly_robust(click, second, arm, np.full(n, 0.1), np.full(n, 0.9), np.arange(n), 0)
    assert off.value == pytest.approx(0.7 - 0.1 + 0.9, abs=0.02), (
        "predictions of two arms that contradict each other are not"
    )
    same = doubly_robust(click, second, arm, np.full(n, 0.9), np.full(n, 0.9), np.arange(n), 0)
    assert same.value == pytest.approx(0.7, abs=0.02), "right propensities, wrong predictions"


def test_predictions_come_from_other_users():
    log = pd.DataFrame({
        "user_id": np.repeat([f"u{k}" for k in range(40)], 10), "arm": ["a", "b"] * 200,
        "position": np.tile(np.arange(1, 6), 80), "click": np.tile([True, False] * 5, 40),
    })  # fmt: skip
    shown, asked = predicted_rates(log, "a", seed=3)
    assert (asked > 0.9).all() and (shown[log["arm"] == "b"] < 0.1).all()
    one = log.assign(click=log["click"] ^ (log["user_id"] == "u7"))
    changed = predicted_rates(one, "a", seed=3)[1] != asked
    mine = (log["user_id"] == "u7").to_numpy()
    assert changed.any() and not changed[mine].any(), "nobody's own clicks predict them"


def test_replay_is_refused_where_it_would_say_something_else():
    with pytest.raises(ValueError, match="equal probabilities"):
        replay(CLICKS, PROPENSITIES, SHOWN, USERS, 0)
    with pytest.raises(ValueError, match="deterministic"):
        replay(CLICKS, [0.5] * 5, [0.5] * 5, USERS, 0)
    with pytest.raises(ValueError, match="propensities"):
        ips(CLICKS, [0.0, *PROPENSITIES[1:]], SHOWN, USERS, 0)
    assert snips(CLICKS, PROPENSITIES, [0] * 5, USERS, 0).value is None


class World:
    """Users who click one of two arms' pictures more, logged by a policy that prefers an arm for some of them."""

    arms = ("original", "other")

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.attraction = rng.beta(2, 4, (20_000, 2))  # of each user, by arm
        self.propensity = rng.choice([0.2, 0.5, 0.8], 20_000)  # of the second arm
        self.truth = PositionBased().expected(np.ones((1, 4)))[0].mean() * self.attraction.mean(axis=0)

    def log(self, seed: int, users: int = 60, pages: int = 3, equal: bool = False) -> pd.DataFrame:
        rng, places = np.random.default_rng(seed), 4
        who = np.repeat(rng.integers(0, 20_000, users), pages)
        second = np.full(len(who), 0.5) if equal else self.propensity[who]
        arm = (rng.random(len(who)) < second).astype(int)
        clicks = PositionBased().draw(
            np.repeat(self.attraction[who, arm][:, None], places, axis=1), rng.random((len(who), places))
        )
        return pd.DataFrame({
            "user_id": np.repeat(np.repeat(np.arange(users), pages), places),
            "arm": np.repeat(np.array(self.arms)[arm], places),
            "propensity": np.repeat(np.where(arm == 1, second, 1 - second), places),
            "click": clicks.ravel(),
        })  # fmt: skip


@pytest.fixture(scope="module")
def world():
    return World()


def test_intervals_hold_the_truth_of_200_logs(world):
    """Binomial(200, 0.95) is between 181 and 198 in all but 1 of 1,000 experiments."""
    found = [arm_values(world.log(seed), seed) for seed in range(200)]
    for estimator in ("ips", "snips", "dr"):
        for truth, arm in zip(world.truth, world.arms, strict=True):
            each = [values[arm][estimator] for values in found]
            assert 181 <= sum(row["low"] <= truth <= row["high"] for row in each) <= 198, (estimator, arm)
            assert np.mean([row["value"] for row in each]) == pytest.approx(truth, rel=0.03), (estimator, arm)
    assert "replay" not in found[0]["other"]


def test_replay_holds_the_truth_where_the_log_chose_at_random(world):
    held = 0
    for seed in range(200):
        log = world.log(seed, equal=True)
        shown = (log["arm"] == "other").to_numpy(dtype=float)
        found = replay(log["click"], log["propensity"], shown, log["user_id"].to_numpy(), seed)
        held += found.low <= world.truth[1] <= found.high
    assert 181 <= held <= 198
    each = arm_values(log, 0)["other"]
    assert each["replay"]["value"] == pytest.approx(each["snips"]["value"]), "equal weights"
