"""One ranking model in both roles: the gap between them is not there to be measured, and the run says so."""

from __future__ import annotations

import json

import pandas as pd

from recgen import api as session


def test_the_gap_is_not_measured_and_the_reason_is_given(write_config, tmp_path):
    session.run(
        str(write_config(tmp_path, ranker={"same_judge": True})), str(tmp_path / "run"), (), until="evaluate"
    )
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    measured = metrics["creatives"]["toy"]
    assert "over_optimisation_gap" not in measured
    assert measured["delta_r_reward"] == measured["delta_r_judge"] | {
        "low": measured["delta_r_reward"]["low"],
        "high": measured["delta_r_reward"]["high"],
    }
    assert (
        "one model" in metrics["unavailable"]["over_optimisation_gap"]
        and metrics["run"]["same_judge"] is True
    )
    assert "over_optimisation_gap" not in pd.read_parquet(tmp_path / "run/per_request.parquet")
