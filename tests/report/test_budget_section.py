"""The report's section on the budget."""

import json

from report_page import read
from report_run import make_run

from recgen.report import build

CURVE = {
    "metric": "true_utility_gain", "shares": [0.1, 1.0], "images": 12, "total": 5.0,
    "earned": [0.3, 1.0], "random": [0.1, 1.0], "best": [1.4, 1.0],
}  # fmt: skip


def budget_of(tmp_path, asked, **generators):
    folder = make_run(tmp_path / "toy", tuple(generators))
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["budget"] = {"asked": asked, "generators": generators}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return read(build(folder)).all("section", aria_labelledby="budget-title")[0]


def test_a_run_without_a_budget_says_nothing_of_it(tmp_path):
    assert not read(build(make_run(tmp_path / "toy"))).all(id="budget")


def test_it_says_how_many_were_drawn_of_how_many_and_what_a_part_would_have_earned(tmp_path):
    nothing = {**CURVE, "total": -1.0, "earned": None, "random": None, "best": None}
    section = " ".join(budget_of(tmp_path, 36, rebeca=CURVE, folder=nothing).text.split())
    assert "ask for 36 different images, of which each generator drew 12" in section
    assert "rebeca by predicted gain times traffic 30% 100%" in section
    assert "rebeca at random 10% 100%" in section and "rebeca in hindsight 140% 100%" in section
    assert "The images of folder earn nothing as a whole" in section and "folder at random" not in section


def test_where_all_were_drawn_no_choice_is_claimed(tmp_path):
    section = " ".join(budget_of(tmp_path, 12, rebeca=CURVE).text.split())
    assert "drew all 12 different images" in section and "those of the greatest" not in section
