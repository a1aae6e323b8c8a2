"""The report's section on creatives that users share."""

import json

from report_page import read
from report_run import make_run

from recgen.report import build


def test_a_row_a_level_with_what_is_lost_and_saved(tmp_path):
    folder = make_run(tmp_path / "toy")
    assert not read(build(folder)).all(id="sharing")
    metrics = json.loads((folder / "metrics.json").read_text())

    def gains(value):
        return {
            "true_utility_gain": {"value": value, "low": value - 0.2, "high": value + 0.2, "n": 24},
            "score_gain_judge": {"value": value / 2, "low": None, "high": None, "n": 24},
            "verifier_gain": {"value": 0.1, "low": 0, "high": 0.2, "n": 24},
        }

    def lost(value):
        found = {
            "a": "own",
            "b": "shared",
            "difference": value,
            "low": value - 0.1,
            "high": value + 0.1,
            "p": 0.01,
            "n": 24,
        }
        return {"true_utility_gain": found, "score_gain_judge": found}

    curve = [
        {"groups": None, "images": 1200, "saved": 0.0, "gain": gains(2.0)},
        {"groups": 4, "images": 300, "saved": 0.75, "gain": gains(1.5), "lost": lost(0.5)},
        {"groups": 1, "images": 60, "saved": 0.95, "gain": gains(0.3), "lost": lost(1.7)},
    ]
    metrics["sharing"] = {"rebeca": {"curve": curve, "requests": 24}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    page = read(build(folder))
    (section,) = page.all(id="sharing")
    (table,) = page.all("table", data_generator="rebeca")
    rows = [row.text for row in table.all("tr")]
    assert rows[1].startswith("each user 1,200 +2.00") and "+1.000 (no interval)" in rows[1]
    assert rows[2].startswith("4 groups 300 (75% saved)") and "+0.500 (0.400 to 0.600)" in rows[2]
    assert rows[3].startswith("everybody 60 (95% saved)") and "verifier" not in table.text
    assert section.text and page.all("a", href="#sharing")
