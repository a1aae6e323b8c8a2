"""The report's section on the gate."""

import json

from report_page import read
from report_run import make_run

from recgen.report import build


def estimate(value, low=None, high=None, n=30):
    return {"value": value, "low": low, "high": high, "n": n}


def test_the_gate_has_a_row_a_generator(tmp_path):
    folder = make_run(tmp_path / "toy", ("rebeca", "folder"))
    assert not read(build(folder)).all(id="gate")
    metrics = json.loads((folder / "metrics.json").read_text())
    part = {
        "all": estimate(0.7, 0.6, 0.8),
        "precision": estimate(0.98, 0.95, 1.0, 20),
        "recall": estimate(0.9, 0.85, 0.95, 18),
    }
    known = {
        "keeps": part,
        "helps": part,
        "true_gain": {
            "all": estimate(0.4, 0.2, 0.6),
            "shown": estimate(1.25, 1, 1.5),
            "accepted": estimate(2, 1, 3),
        },
    }
    refused = {"attributes": 7, "no gain": 3}
    metrics["gate"] = {
        "rebeca": {"accepted": estimate(0.6667, 0.5, 0.8), "refused": refused, "safety": "open_nsfw", **known},
        "folder": {"accepted": estimate(0.0, 0.0, 0.1), "refused": {}, "safety": "not checked", **known},
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    page = read(build(folder))
    table, truth = (page.all(id=name)[0].text for name in ("gate-table", "gate-truth"))
    assert "67% (50 to 80) of 30" in table and "7 showing something else, 3 not predicted to help" in table
    assert "open_nsfw" in table and "not checked" in table and page.all("a", href="#gate")
    for row in ("shows the item", "is truly liked more than the item's own image"):
        assert f"{row} 98% (95 to 100) of 20 90% (85 to 95) of 18 70% (60 to 80) of 30" in " ".join(
            truth.split()
        )
    assert (
        "rebeca: +1.25 (1.00 to 1.50) with the gate, +0.40 (0.20 to 0.60) without."
        in page.all("section", aria_labelledby="gate-title")[0].text
    )


def test_without_a_truth_nothing_is_said_of_how_right_it_is(tmp_path):
    folder = make_run(tmp_path / "toy")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["gate"] = {"rebeca": {"accepted": estimate(1.0, 1, 1), "refused": {}, "safety": "not checked"}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    page = read(build(folder))
    assert "none" in page.all(id="gate-table")[0].text and not page.all(id="gate-truth")
