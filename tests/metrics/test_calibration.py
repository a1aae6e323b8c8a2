"""Correlation of judge and truth within requests."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recgen.metrics.calibration import calibrated, within_requests


def requests(count: int = 200, each: int = 8, rho: float = 0.5, seed: int = 0) -> pd.DataFrame:
    """Images whose judge and truth correlate by rho within a request, and perversely between requests."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(count), each)
    own = rng.normal(size=len(rows))
    judge = rho * own + np.sqrt(1 - rho**2) * rng.normal(size=len(rows))
    between = 10 * rng.normal(size=count)[rows]
    return pd.DataFrame(
        {
            "request": rows.astype(str),
            "user": (rows // 2).astype(str),
            "judge": judge - between,
            "truth": own + between,
        }
    )


def measured(table: pd.DataFrame):
    return within_requests(
        table["request"].tolist(), table["user"].tolist(), table["judge"], table["truth"], seed=1
    )


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_only_what_differs_within_a_request_counts(rho):
    table = requests(rho=rho)
    found = measured(table)
    assert np.corrcoef(table["judge"], table["truth"])[0, 1] < -0.9
    assert found.value == pytest.approx(rho, abs=0.06) and found.n == 200
    assert found.low < rho < found.high and found.high - found.low < 0.2


def test_it_is_the_pooled_correlation_of_deviations():
    table = requests(20, 3)
    x, y = (table[name] - table.groupby("request")[name].transform("mean") for name in ("judge", "truth"))
    assert measured(table).value == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_the_interval_is_over_users():
    """The same requests of fewer users say less."""
    table = requests()
    few = table.assign(user=(table["request"].astype(int) // 25).astype(str))
    wide, narrow = measured(few), measured(table)
    assert wide.value == pytest.approx(narrow.value)
    assert wide.high - wide.low != pytest.approx(narrow.high - narrow.low, rel=0.02)
    one = measured(table.assign(user="u"))
    assert one.value == pytest.approx(narrow.value) and one.low is None


def test_what_cannot_be_measured_has_no_value():
    table = requests(10, 4)
    assert measured(table.assign(truth=1.0)).value is None
    assert measured(table.drop_duplicates("request")).n == 0
    with_hole = table.assign(judge=table["judge"].where(table.index != 3))
    assert measured(with_hole).value == measured(table.drop(index=3)).value


def frame(table: pd.DataFrame, number: int) -> pd.DataFrame:
    own = table.groupby("request").nth(number)
    names = {
        "user": "user_id",
        "request": "item_id",
        "judge": "score_gain_judge",
        "truth": "true_utility_gain",
    }
    return own.rename(columns=names).reset_index(drop=True)


def test_a_run_with_a_truth_is_calibrated_by_what_its_creatives_differ_in():
    table = requests(300, 4, rho=0.7)
    own = {name: frame(table, number) for number, name in enumerate(("a", "b"))}
    swapped = {name: frame(table, number + 2) for number, name in enumerate(("a", "b"))}
    found = calibrated(own, swapped, 1)
    assert set(found) == {"generators", "users"}
    assert found["generators"]["n"] == 300 and found["users"]["n"] == 600
    for each in found.values():
        assert each["value"] == pytest.approx(0.7, abs=0.08) and each["low"] < each["value"] < each["high"]
    assert set(calibrated({"a": own["a"]}, swapped, 1)) == {"users"}
    assert calibrated({"a": own["a"].drop(columns="true_utility_gain")}, swapped, 1) == {}
