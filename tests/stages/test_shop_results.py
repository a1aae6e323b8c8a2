"""What the experiments on the gate, groups and learning measured holds what their page says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "experiments"


def result(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name / "result.json").read_text(encoding="utf-8"))


def test_what_the_gate_accepts_shows_the_item():
    found = result("gate")
    assert found["seeds"] == [1, 2, 3, 4, 5] and found["n"] == 5 * 3 * 48
    every = found["default"]["all"]
    assert every["keeps"]["precision"]["value"] >= 0.95 > every["keeps"]["all"]["value"]
    assert found["default"]["taste"]["keeps"]["precision"]["value"] >= 0.95
    assert every["keeps"]["precision"]["value"] > every["shuffled"]["keeps"], "more than as many at random"
    assert every["helps"]["precision"]["value"] > every["shuffled"]["helps"]


def test_the_first_images_of_a_budget_earn_more_than_images_at_random():
    found = result("budget")
    assert (
        found["seeds"] == [1, 2, 3, 4, 5]
        and min(found["correlation of predicted and true gain"].values()) > 0.5
    )
    for traffic in ("log", "skewed"):
        each = found[traffic]
        half = each["shares"].index(0.5)
        assert each["random"][half] + 0.1 < each["earned"][half] < each["best"][half]
        assert each["earned"][half] > each["traffic alone"][half]


def test_fewer_groups_lose_more_and_clusters_less_than_dealt_groups():
    found = result("groups")
    lost = [level["lost"]["true_utility_gain"] for level in found["curve"] if (level["groups"] or 0) > 0]
    assert [level["difference"] for level in lost] == sorted(level["difference"] for level in lost)
    assert lost[-1]["low"] > 0 and found["clusters over dealt groups"]["low"] > 0


@pytest.mark.parametrize("world", ["matters", "nothing matters"])
def test_thompson_sampling_loses_nothing_and_gains_where_pictures_matter(world):
    over = result("learning")[world]["thompson over"]["original"]
    assert over["n"] == 20
    if world == "matters":
        assert over["low"] > 0
    else:
        assert over["low"] < 0 < over["high"]


def test_the_service_gave_no_wrong_answer_and_lost_no_impression():
    found = result("serving")
    assert found["creatives"] == 1_000_000
    assert (
        found["steady"]["wrong"]
        == found["killed"]["wrong"]
        == found["killed"]["answered and not in the log"]
        == 0
    )
    assert found["steady"]["right"] > 19_000 and found["killed"]["right"] > 15_000


def test_the_service_answered_a_thousand_requests_a_second_within_fifty_milliseconds():
    found = result("serving")
    assert found["asked a second"] == 1_000 and found["cores"] == 2
    assert found["steady"]["answered a second"] >= 990 and found["steady"]["failed"] == 0
    assert found["steady"]["ms"]["p99"] < 50


def test_off_policy_estimates_are_those_of_the_open_bandit_pipeline():
    found = json.loads((FOLDER / "learning/reference.json").read_text())
    assert set(found["largest difference"]) == {"IPS", "SNIPS", "DR", "replay"} and found["logs"] == 80
    assert max(found["largest difference"].values()) < 1e-12
