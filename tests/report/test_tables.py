"""When a difference is printed as clear."""

from __future__ import annotations

import pytest

from recgen.report.tables import changes


@pytest.mark.parametrize(
    ("low", "high", "p", "p_holm", "clear"),
    [
        (0.1, 0.3, 0.001, 0.02, True),
        (-0.3, -0.1, 0.001, 0.02, True),
        (0.1, 0.3, 0.001, 0.2, False),
        (-0.1, 0.3, 0.001, 0.001, False),
        (0.1, 0.3, None, None, False),
        (None, None, 0.001, 0.001, False),
    ],
)
def test_where_interval_and_corrected_p_both_leave_out_zero(low, high, p, p_holm, clear):
    test = {"a": "taste", "b": "original", "metric": "cis", "difference": 0.2, "n": 9, "test": "paired"}
    (change,) = changes([{**test, "low": low, "high": high, "p": p, "p_holm": p_holm}])
    assert change.clear == clear
