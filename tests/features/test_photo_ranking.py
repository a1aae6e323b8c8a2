"""How rankers do on photographs: how a place counts, who likes by category, and that the page says what was recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.photos.kinds import ceiling, liked
from experiments.photos.measure import places

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
DATA = ("films", "garments", "kinds")


def recorded(name: str):
    return json.loads((EXPERIMENTS / f"photos/{name}.json").read_text(encoding="utf-8"))


def test_places_count_items_that_are_not_known():
    scores = torch.arange(14.0).repeat(3, 1)
    scores[2] = 0.0
    known = torch.zeros(3, 14, dtype=torch.bool)
    known[:, 0] = True
    known[1, 11:] = True
    found = places(scores, torch.tensor([3, 3, 3]), known)
    assert found["recall@10"].tolist() == [0, 1, 1], (
        "ten are above the first, seven above the second, none above the third"
    )
    np.testing.assert_allclose(found["auc"], [2 / 12, 2 / 9, 1 / 2])


def test_who_likes_by_category_can_be_ranked_by_it():
    rng = np.random.default_rng(0)
    categories = pd.Series(rng.choice(list("abcd"), 200), index=[f"i{row}" for row in range(200)])
    log = pd.DataFrame(
        [
            (f"u{user}", item)
            for user in range(60)
            for item in rng.choice(categories.index, 40, replace=False)
        ],
        columns=["user_id", "item_id"],
    )
    log["like"] = liked(log, categories, 0)
    assert 0.3 < log["like"].mean() < 0.6
    assert 0.65 < ceiling(log, categories, 0)["auc"] < 0.85
    log["like"] = rng.permutation(log["like"])
    assert 0.45 < ceiling(log, categories, 0)["auc"] < 0.55, "likes of others"


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("model", ["MICRO", "VBPR"])
@pytest.mark.parametrize(("metric", "digits"), [("recall@10", 4), ("auc", 3)])
def test_the_page_says_what_was_recorded(name, model, metric, digits):
    def words(value, low, high, sign=""):
        return f"{value:{sign}.{digits}f} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"

    of = recorded(name)[model][metric]
    sources = (of[each] for each in ("photos", "demo-clip", "photos, dealt out", "no features"))
    cells = [words(each["value"], each["low"], each["high"]) for each in sources]
    (gap,) = (each for each in of["differences"] if (each["a"], each["b"]) == ("photos", "demo-clip"))
    cells.append(words(gap["difference"], gap["low"], gap["high"], "+"))
    assert " | ".join(cells) in (EXPERIMENTS / "README.md").read_text(encoding="utf-8")


def test_no_eyes_rank_films_better_than_features_of_other_films():
    """And these eyes rank garments better than the demo's where users like by category: what the page concludes."""
    for model in ("MICRO", "VBPR"):
        gaps = {(each["a"], each["b"]): each for each in recorded("films")[model]["recall@10"]["differences"]}
        for other in ("photos, dealt out", "no features", "demo-clip"):
            assert gaps["photos", other]["low"] < 0 < gaps["photos", other]["high"]
    (gap,) = (
        each
        for each in recorded("kinds")["VBPR"]["auc"]["differences"]
        if (each["a"], each["b"]) == ("photos", "demo-clip")
    )
    assert gap["low"] > 0 and gap["p"] * 12 < 0.05
