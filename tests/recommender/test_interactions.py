"""RecBole's likes beside the file's own ratings and times, and the dislikes before the reference: by number, as by loops."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from recgen.recommender.interactions import assemble


def made(rng: np.random.Generator, threshold: float | None) -> tuple[pd.DataFrame, SimpleNamespace]:
    """A file with pairs that stand there twice, and RecBole's split of its likes of all users and items but one."""
    count = int(rng.integers(10, 60))
    raw = pd.DataFrame(
        {
            "user_id": [f"u{n}" for n in rng.integers(0, 5, count)],
            "item_id": [f"i{n}" for n in rng.integers(0, 5, count)],
            "rating": rng.integers(1, 6, count).astype(float),
            "timestamp": np.where(rng.random(count) < 0.1, np.nan, rng.integers(0, 12, count)),
        }
    )
    tokens = {
        name: np.array(["[PAD]", *(f"{name[0]}{n}" for n in range(4))], dtype=object)
        for name in ("user_id", "item_id")
    }
    kept = raw[raw["user_id"].isin(tokens["user_id"]) & raw["item_id"].isin(tokens["item_id"])]
    kept = kept[kept["rating"] >= threshold] if threshold is not None else kept
    kept = kept.sample(frac=1, random_state=1)
    split = rng.integers(0, 3, len(kept))
    parts = []
    for number in range(3):
        rows = kept[split == number]
        ids = {name: [list(all_).index(token) for token in rows[name]] for name, all_ in tokens.items()}
        parts.append(
            SimpleNamespace(
                inter_feat={name: torch.tensor(each, dtype=torch.long) for name, each in ids.items()}
            )
        )
    whole = SimpleNamespace(uid_field="user_id", iid_field="item_id", field2id_token=tokens)
    return raw, SimpleNamespace(whole=whole, train=parts[0], valid=parts[1], test=parts[2])


def by_loops(raw: pd.DataFrame, parts: SimpleNamespace, threshold: float | None) -> list[tuple[Any, ...]]:
    tokens, late = parts.whole.field2id_token, math.inf
    by_time = sorted(
        raw.to_dict("records"), key=lambda row: late if math.isnan(row["timestamp"]) else row["timestamp"]
    )
    rows: list[tuple[Any, ...]] = []
    turn: dict[tuple[str, str], int] = {}
    for name in ("train", "valid", "test"):
        ids = getattr(parts, name).inter_feat
        for user, item in zip(ids["user_id"].tolist(), ids["item_id"].tolist(), strict=True):
            pair = (tokens["user_id"][user], tokens["item_id"][item])
            row = [each for each in by_time if (each["user_id"], each["item_id"]) == pair][turn.get(pair, 0)]
            turn[pair] = turn.get(pair, 0) + 1
            rows.append((*pair, row["rating"], row["timestamp"], True, name))

    def place(row: tuple[Any, ...]) -> tuple[int, float]:
        return list(tokens["user_id"]).index(row[0]), late if math.isnan(row[3]) else row[3]

    rows.sort(key=place)
    references = {row[0]: row[3] for row in rows if row[5] == "test"}
    for row in raw.to_dict("records") if threshold is not None else ():
        known = row["user_id"] in tokens["user_id"] and row["item_id"] in tokens["item_id"]
        if (
            known
            and row["rating"] < threshold
            and not row["timestamp"] >= references.get(row["user_id"], math.nan)
        ):
            rows.append((row["user_id"], row["item_id"], row["rating"], row["timestamp"], False, "none"))
    return sorted(rows, key=place)


@pytest.mark.parametrize("threshold", [3.0, None])
def test_it_is_what_loops_make_of_it(threshold):
    rng = np.random.default_rng(0)
    for _ in range(40):
        raw, parts = made(rng, threshold)
        table, items = assemble(raw, parts, threshold)
        expected = pd.DataFrame(by_loops(raw, parts, threshold), columns=list(table))
        strings = dict.fromkeys(("user_id", "item_id", "split"), object)
        pd.testing.assert_frame_equal(table.astype(strings), expected, check_dtype=False)
        assert items == ["i0", "i1", "i2", "i3"]
