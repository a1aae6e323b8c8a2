"""How far the judge can be believed, and what a gain costs in content, as the report says it."""

import json
from pathlib import Path

import pytest
from report_page import by_id, read
from report_run import make_run, metrics_of

from recgen.report import believed, build, pareto, text
from recgen.report.run_files import RunFiles


@pytest.fixture
def run(tmp_path):
    """A run with one generator."""
    return make_run(tmp_path / "toy")


def test_gain_is_drawn_against_content_kept(run):
    drawn = pareto.plot(RunFiles.read(run))
    means = metrics_of(run)["creatives"]["rebeca"]
    kept = text.number(means["cis"]["value"])
    gain = text.number(means["percentile_gain_judge"]["value"], signed=True)
    assert f"rebeca: kept {kept}, gain {gain}" in drawn.alt and drawn.caption.endswith(": rebeca.")
    stored = metrics_of(run)
    del stored["creatives"]["rebeca"]["cis"]
    (run / "metrics.json").write_text(json.dumps(stored))
    assert pareto.plot(RunFiles.read(run)) is None


def test_a_truth_comes_before_a_judge_in_the_trade(run):
    stored = metrics_of(run)
    for key, value in (("true_utility_gain", 1.25), ("content_preservation", 0.5)):
        stored["creatives"]["rebeca"][key] = {"value": value, "low": None, "high": None, "n": 30}
    (run / "metrics.json").write_text(json.dumps(stored))
    assert "rebeca: kept 0.500, gain +1.250" in pareto.plot(RunFiles.read(run)).alt


def test_what_is_recorded_of_a_judge_stands_beside_what_the_run_has_measured(run):
    stored = metrics_of(run)
    stored["run"] |= {"judge": "Verifier", "encoder": "demo-clip", "judge_encoder": "demo-clip"}
    stored["calibration"] = {"users": {"value": 0.625, "low": 0.5, "high": 0.75, "n": 80}}
    (run / "metrics.json").write_text(json.dumps(stored))
    table = by_id(read(build(run)), "calibration-table").all("tbody")[0]
    cells = [[cell.text for cell in row.all("td")] for row in table.all("tr")]
    recorded = believed._file()["judges"]["Verifier, demo-clip"]
    assert len(cells) == len(believed.KINDS)
    for (here, of_file), kind in zip(cells, believed.KINDS, strict=True):
        assert of_file.startswith(text.number(recorded[kind]["truth"]["value"], 2))
        assert here.startswith("0.62" if kind == "users" else "not measured")


def test_a_judge_that_was_never_calibrated_gets_a_range_and_a_warning(run):
    stored = metrics_of(run)
    stored["run"] |= {"judge": "MICRO", "encoder": "ViT-H-14", "judge_encoder": "facebook/dinov2-base"}
    (run / "metrics.json").write_text(json.dumps(stored))
    files = RunFiles.read(run)
    assert "has not been calibrated" in believed.source(files) and "facebook/dinov2-base" in believed.source(
        files
    )
    assert all(" to " in kind.recorded and not kind.here for kind in believed.kinds(files))
    page = read(build(run))
    assert "nobody's true taste is known" in page.text
    heads = by_id(page, "calibration-table").all("thead")[0].all("th")
    assert [head.text for head in heads] == ["Images differ", "Recorded on the simulator"]


def test_the_recorded_calibration_is_the_experiments():
    found = json.loads((Path(__file__).parents[2] / "experiments/instruments/calibration.json").read_text())
    assert found == believed._file()
