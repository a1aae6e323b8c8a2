"""The gate's decisions on tables whose right answer is known, and its precision and recall counted by a loop."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recgen.config.gate import Gate
from recgen.metrics import gate

FINE = {"sound": True, "unsafe": 0.1, "attributes": 0.9, "text": 0.02, "image": 0.3, "gain": 0.4}


def evidence(*changes: dict) -> pd.DataFrame:
    return pd.DataFrame([{**FINE, **change} for change in changes])


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "accepted"),
        ({"sound": False, "unsafe": 0.9, "gain": -1}, "unsound"),
        ({"unsafe": 0.51, "attributes": 0.1}, "unsafe"),
        ({"attributes": 0.49, "gain": -1}, "attributes"),
        ({"text": 0.11}, "text"),
        ({"image": 0.99}, "accepted"),  # not asked by default
        ({"gain": 0.0}, "no gain"),
        ({"gain": np.nan}, "no gain"),
        ({"attributes": np.nan, "text": np.nan, "unsafe": np.nan}, "accepted"),
    ],
)
def test_the_first_reason_counts(change, verdict):
    assert gate.decide(evidence(change, {}), Gate()).tolist() == [verdict, "accepted"]


def test_what_is_not_asked_refuses_nobody():
    poor = evidence({"attributes": 0.0, "text": 1.0, "image": 1.0, "gain": -5.0})
    open_gate = Gate(attributes=None, text=None, models=[])
    assert gate.decide(poor, open_gate).tolist() == ["accepted"]
    assert gate.decide(poor, open_gate.model_copy(update={"image": 0.5})).tolist() == ["image"]
    assert gate.decide(evidence({"gain": 0.2}), Gate(min_gain=0.3)).tolist() == ["no gain"]


def test_pessimistic_is_the_smallest_gain():
    assert gate.pessimistic([np.array([1.0, 2.0]), np.array([3.0, -4.0])]).tolist() == [1.0, -4.0]


def test_place_counts_what_is_nearer_than_the_own_item():
    rng = np.random.default_rng(3)
    creatives, texts = rng.normal(size=(6, 4)), rng.normal(size=(9, 4))
    texts[2] = np.nan
    rows = np.array([0, 1, 2, 3, 8, 5])
    unit = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    for found, creative, row in zip(gate.place(creatives, texts, rows), creatives, rows, strict=True):
        nearer = sum(creative @ other > creative @ unit[row] for other in np.delete(unit, 2, axis=0))
        assert np.isnan(found) if row == 2 else found == pytest.approx(nearer / 7)


def test_precision_and_recall_by_a_loop():
    rng = np.random.default_rng(0)
    n = 60
    verdicts = pd.Series(rng.choice(["accepted", "text", "no gain"], n))
    truth = pd.DataFrame({
        "content_preservation": rng.integers(0, 2, n).astype(float), "true_utility_gain": rng.normal(size=n)
    })  # fmt: skip
    found = gate.summary(verdicts, [f"u{k % 20}" for k in range(n)], truth, seed=0)
    rows = list(
        zip(verdicts == "accepted", truth["content_preservation"], truth["true_utility_gain"], strict=True)
    )
    taken = [row for row in rows if row[0]]
    assert found["accepted"]["value"] == pytest.approx(len(taken) / n) and found["accepted"]["n"] == n
    assert found["refused"] == {
        "text": int((verdicts == "text").sum()), "no gain": int((verdicts == "no gain").sum())
    }  # fmt: skip
    assert found["keeps"]["precision"]["value"] == pytest.approx(np.mean([keep for _, keep, _ in taken]))
    assert found["keeps"]["recall"]["value"] == pytest.approx(
        np.mean([took for took, keep, _ in rows if keep])
    )
    assert found["helps"]["precision"]["value"] == pytest.approx(np.mean([gain > 0 for _, _, gain in taken]))
    assert found["helps"]["recall"]["value"] == pytest.approx(
        np.mean([took for took, _, gain in rows if gain > 0])
    )
    assert found["helps"]["all"]["value"] == pytest.approx(np.mean([gain > 0 for _, _, gain in rows]))
    shown = sum(gain for took, _, gain in rows if took) / n
    assert found["true_gain"]["shown"]["value"] == pytest.approx(shown)
    assert (
        found["keeps"]["precision"]["low"]
        < found["keeps"]["precision"]["value"]
        < found["keeps"]["precision"]["high"]
    )


def test_without_a_truth_and_without_anything_accepted():
    verdicts = pd.Series(["text"] * 4)
    assert set(gate.summary(verdicts, list("abcd"), pd.DataFrame(index=range(4)), 0)) == {
        "accepted",
        "refused",
    }
    truth = pd.DataFrame({"content_preservation": [1.0] * 4, "true_utility_gain": [0.5] * 4})
    found = gate.summary(verdicts, list("abcd"), truth, 0)
    assert found["keeps"]["precision"]["value"] is None and found["keeps"]["recall"]["value"] == 0
    assert found["true_gain"]["shown"]["value"] == 0


def test_no_interval_of_a_share_reaches_beyond_it():
    verdicts = pd.Series(["accepted"] * 39 + ["text"])
    keeps = np.array([1.0] * 38 + [0.0, 1.0])
    truth = pd.DataFrame({"content_preservation": keeps, "true_utility_gain": np.linspace(-0.02, 2, 40)})
    found = gate.summary(verdicts, [f"u{k}" for k in range(40)], truth, 0)
    shares = [found["accepted"], *found["keeps"].values(), *found["helps"].values()]
    assert {share["high"] for share in shares} == {1.0}  # uncut they reach from 1.02 to 1.1
    assert found["true_gain"]["shown"]["high"] > 1
