"""The report's section on the market."""

import json

import pytest
from report_page import read
from report_run import make_run

from recgen.report import build

FACTS = {
    "users": 24, "rounds": 1, "pages": 2, "places": 5, "candidates": 14, "model": "VBPR", "click_model": "position",
    "seeds": 1, "arms": ["original", "taste"],
}  # fmt: skip


def estimate(value, spread):
    return {"value": value, "low": value - spread, "high": value + spread, "n": 24}


def tables(gain, spread, p):
    """An A/B test, its only round and the arms' worlds, all with one uplift of taste."""
    uplift = {"difference": gain, "low": gain - spread, "high": gain + spread, "p": p / 2, "p_holm": p}
    over = {"difference": 0.01, "low": 0.005, "high": 0.015, "p": 0.2}
    rows = {
        "original": {"clicks": estimate(1000, 50)},
        "taste": {"clicks": estimate(1000 + gain, 50), "uplift": uplift},
    }
    ab = {arm: {**row, "expected": 990.0} for arm, row in rows.items()}
    quality = {
        arm: {name: {**estimate(0.1, 0.02), "over_original": other} for name in ("recall@10", "ndcg@10")}
        for arm, other in (("original", None), ("taste", over))
    }
    return {
        "ab": ab,
        "rounds": [ab],
        "worlds": {arm: {**row, "quality": quality[arm]} for arm, row in rows.items()},
        "values": {
            arm: {name: estimate(0.2, 0.01) for name in ("ips", "snips", "dr")}
            for arm in ("taste", "original")
        },
    }


@pytest.fixture
def section(tmp_path):
    def shown(effects, **facts):
        folder = make_run(tmp_path / "toy")
        (folder / "market").mkdir()
        found = {"market": {**FACTS, **facts}, "effects": effects}
        (folder / "market/summary.json").write_text(json.dumps(found))
        return read(build(folder)).all("section", aria_labelledby="market-title")[0]

    return shown


@pytest.mark.parametrize(
    ("own", "control", "label"),
    [
        ((300, 100, 0.01), (0, 100, 1.0), "more clicks: taste"),
        ((-300, 100, 0.01), (0, 100, 1.0), "fewer clicks: taste"),
        ((300, 100, 0.06), (0, 100, 1.0), "cannot tell"),
        ((300, 400, 0.01), (0, 100, 1.0), "cannot tell"),
        ((300, 100, 0.01), (90, 50, 0.01), "the negative control finds something"),
    ],
)
def test_a_gain_needs_interval_and_p_and_a_control_that_finds_nothing(section, own, control, label):
    found = section({"1": tables(*own), "0": tables(*control)})
    assert [each.text for each in found.all("span", class_="verdict")] == [label]


def test_captions_say_what_the_intervals_are_over_whatever_the_effect(section):
    once = section({"1": tables(300, 100, 0.01), "0": tables(0, 100, 1.0)})
    captions = [" ".join(each.text.split()) for each in once.all("caption")]
    assert len(captions) == 2 and all("intervals over users;" in each for each in captions)
    assert all("corrected for the number of arms (Holm)" in each for each in captions)


def test_with_repetitions_they_are_over_both(section):
    again = section({"1": tables(300, 100, 0.01)}, seeds=5)
    assert "over users and repetitions;" in again.text and "done 5 times, with other trainings" in again.text


def test_the_arms_stand_in_one_order_and_a_p_above_it_is_not_bold(section):
    found = section({"1": tables(300, 100, 0.01)})
    rows = [each.text.split()[0] for each in found.all("tr") if each.text.split()[0] in ("original", "taste")]
    assert rows == ["original", "taste"] * 3
    bold = [each.text for each in found.all("td", class_="best")]
    assert len(bold) == 2 and all("+300" in each for each in bold), "the recommender's p of 0.2 is not clear"
