"""What experiments/market measured holds what its page says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

RESULT = Path(__file__).parents[2] / "experiments/market/result.json"


@pytest.fixture(scope="module")
def standins():
    return json.loads(RESULT.read_text(encoding="utf-8"))["standins"]


def test_without_an_effect_the_uplifts_interval_holds_zero(standins):
    assert len(standins["seeds"]) == 20
    assert standins["effect 0"]["fitting"]["holds 0"] >= 19
    assert all(
        abs(row["expected uplift"]["mean"]) < 1e-6 for row in standins["effect 0"].values() if "uplift" in row
    )


def test_in_worlds_without_an_effect_intervals_hold_zero_as_often_as_they_say():
    found = json.loads(RESULT.read_text(encoding="utf-8"))["coverage"]
    held = sum(found["holds 0"].values()) / (len(found["holds 0"]) * found["worlds"])
    assert found["worlds"] == 200 and held == pytest.approx(found["share that holds 0"]["mean"], abs=1e-3)
    assert 0.93 <= held <= 0.97


def test_with_the_effect_only_what_is_made_for_the_user_gains_in_every_world(standins):
    gained = {arm: row["above 0"] for arm, row in standins["effect 1"].items() if "uplift" in row}
    assert gained["fitting"] == 20 and gained["swapped"] == gained["random"] == 0


def test_what_taste_draws_is_clicked_and_what_it_draws_for_others_is_not():
    drawn = json.loads(RESULT.read_text(encoding="utf-8"))["drawn"]
    gained = {arm: row["above 0"] for arm, row in drawn["effect 1"].items() if "uplift" in row}
    assert len(drawn["seeds"]) == gained["taste"] == 5 and gained["swapped.taste"] == gained["constant"] == 0
    assert drawn["effect 0"]["taste"]["above 0"] <= 1
