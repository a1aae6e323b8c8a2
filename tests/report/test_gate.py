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
    part = {"all": estimate(0.7), "precision": estimate(0.98, 0.95, 1.0, 20), "recall": estimate(0.9)}
    known = {
        "keeps": part,
        "helps": part,
        "true_gain": {"all": estimate(0.4), "shown": estimate(1.25), "accepted": estimate(2)},
    }
    refused = {"attributes": 7, "no gain": 3}
    metrics["gate"] = {
        "rebeca": {"accepted": estimate(0.6667, 0.5, 0.8), "refused": refused, "safety": "open_nsfw", **known},
        "folder": {"accepted": estimate(0.0, 0.0, 0.1), "refused": {}, "safety": "not checked", **known},
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    page = read(build(folder))
    table = page.all(id="gate-table")[0].text
    assert "67% (50 to 80) of 30" in table and "shows something else 7, not predicted to help 3" in table
    assert "98% (95 to 100) of 20 (70%; 90%)" in table and "+1.25, +0.40" in table
    assert "open_nsfw" in table and "not checked" in table and page.all("a", href="#gate")
