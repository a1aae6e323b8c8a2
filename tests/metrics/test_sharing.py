"""The curve of sharing, on a table whose figures are known."""

from __future__ import annotations

import pandas as pd
import pytest

from recgen.metrics.sharing import OWN, curve


def test_the_curve_pairs_requests_and_counts_images():
    pairs = [(f"u{k}", f"i{k % 3}") for k in range(8)]
    table = pd.DataFrame([
        {"level": level, "user_id": user, "item_id": item, "true_utility_gain": k + shift}
        for level, shift in ((OWN, 1.0), (4, 0.5), (1, -1.0))
        for k, (user, item) in (reversed(list(enumerate(pairs))) if level == 4 else enumerate(pairs))
    ])  # fmt: skip
    own, four, one = curve(table, {OWN: 100, 4: 40, 1: 10}, seed=0)
    assert (own["groups"], own["images"], own["saved"], "lost" in own) == (None, 100, 0, False)
    assert (
        own["gain"]["true_utility_gain"]["value"] == pytest.approx(4.5)
        and own["gain"]["true_utility_gain"]["n"] == 8
    )
    assert (four["groups"], four["saved"]) == (4, pytest.approx(0.6))
    lost = four["lost"]["true_utility_gain"]
    assert lost["difference"] == pytest.approx(0.5) and lost["low"] == pytest.approx(0.5), "paired: no spread"
    assert lost["p"] == pytest.approx(2 / 2**8)
    assert one["lost"]["true_utility_gain"]["difference"] == pytest.approx(2) and one[
        "saved"
    ] == pytest.approx(0.9)
    assert "score_gain_judge" not in one["gain"]
